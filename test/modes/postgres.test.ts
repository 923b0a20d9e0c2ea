import { fromSource } from './from.ts';

await fromSource('pgsql');
