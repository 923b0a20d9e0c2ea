import { fromSource } from './from.ts';

await fromSource('mysql');
