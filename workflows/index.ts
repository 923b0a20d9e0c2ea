/** Every workflow of the bundle, by its type's name. */
export { hold } from './hold.ts';
export { probe } from './probe.ts';
export { run } from './run.ts';
export { table } from './table.ts';
