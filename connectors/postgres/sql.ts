/** Quoting. The only way names and texts enter a statement that cannot take parameters (COPY, SET, DDL). */
import type { TableName } from '../contract.ts';

/** A name as an identifier: always quoted, so case and reserved words are kept. A NUL cannot be part of a name. */
export const ident = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** `"schema"."name"`; without a schema the name alone (temporary tables). */
export const tableIdent = (table: TableName): string =>
  table.schema ? `${ident(table.schema)}.${ident(table.name)}` : ident(table.name);

/** A text as a literal, safe whatever `standard_conforming_strings` says. */
export const literal = (text: string): string => {
  const doubled = text.replaceAll("'", "''");
  return text.includes('\\') ? ` E'${doubled.replaceAll('\\', '\\\\')}'` : `'${doubled}'`;
};

/** A text as a literal of a type; `type` is the server's own spelling (format_type with an empty search_path). */
export const typed = (text: string, type: string): string => `${literal(text)}::${type}`;

/** Joined names for a column list. */
export const columnList = (names: readonly string[]): string => names.map(ident).join(', ');
