/** Which formats carry a table's columns to another MySQL without changing a byte (decision 19). */
import type { Format, Table, Target } from '../contract.ts';
import { mysqlExtras } from './extras.ts';

/** The text form of every type of MySQL reads back as the same value: FLOAT goes in its shortest form, geometries as bytes. */
export const exactFormats = (table: Table, _: readonly string[], target: Target): readonly Format[] =>
  mysqlExtras(table) && target.system === 'mysql' ? ['pg-text'] : [];
