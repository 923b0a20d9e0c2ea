/** Quoting. The only way names and texts enter a statement. Sessions have neither ANSI_QUOTES nor NO_BACKSLASH_ESCAPES. */
import type { TableName } from '../contract.ts';

/** A name as an identifier: always quoted, so case and reserved words are kept. */
export const ident = (name: string): string => `\`${name.replaceAll('`', '``')}\``;

/** `database`.`name`; without a database the name alone. */
export const tableIdent = (table: TableName): string =>
  table.schema ? `${ident(table.schema)}.${ident(table.name)}` : ident(table.name);

/** A text as a literal of utf8mb4. */
export const literal = (text: string): string =>
  `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\0', '\\0')}'`;

/** Joined names for a column list. */
export const columnList = (names: readonly string[]): string => names.map(ident).join(', ');
