/**
 * What `Table.extras` of a PostgreSQL source holds: everything only another PostgreSQL understands. Plain JSON. All
 * definitions are as the server prints them with an empty search_path: every name with its schema, the table's own too.
 */
import type { Table, TableName } from '../contract.ts';

export type PostgresExtras = {
  readonly system: 'postgres';
  /** Major version of the source. */
  readonly version: number;
  /** The server's encoding: `UTF8`, `SQL_ASCII`, … */
  readonly encoding: string;
  /** By column name; every column is there. */
  readonly columns: Readonly<Record<string, PostgresColumn>>;
  /** User types the columns need, in the order they must be created. Those of extensions are in `extensions`. */
  readonly types: readonly PostgresUserType[];
  /** Extensions that own types or operators used here; `schema` is where the source has them. */
  readonly extensions: readonly { readonly name: string; readonly schema: string }[];
  /** Primary key, unique, exclusion and check constraints. Not-null is in `Column.nullable`. */
  readonly constraints: readonly PostgresConstraint[];
  /** Indexes that no constraint owns. */
  readonly indexes: readonly PostgresIndex[];
  readonly foreignKeys: readonly PostgresForeignKey[];
  /** Comment on the table. */
  readonly comment?: string;
  /** How a partitioned table is cut; it is moved as one table. */
  readonly partitioning?: PostgresPartitioning;
  /** The storage generation: a hash of the files of `relations`. A TRUNCATE or a rewrite changes it. */
  readonly storage: string;
  /** Oids whose storage a read touches: the table, the leaves of a partitioned one, the tables under a view. */
  readonly relations: readonly number[];
  /** The index `key` stands on, for chunks. */
  readonly keyIndex?: PostgresKeyIndex;
  /** pg_stats.correlation of the first key column; undefined without statistics. */
  readonly correlation?: number;
  /** Size in pages of the main fork (all leaves together). */
  readonly pages: number;
  /** The table's oid: the same object under a new name keeps it. */
  readonly oid: number;
};

export type PostgresColumn = {
  /** pg_attribute.attnum: dropped and made again, a column of the same name has another one. */
  readonly number: number;
  /** What a query describes the column as: type oid and modifier, domains resolved. */
  readonly type: number;
  readonly typmod: number;
  /** Of a domain: the type it stands on, `numeric(12,2)` for a domain `shop.price`. */
  readonly base?: string;
  /** Default expression, absent for generated and identity columns. */
  readonly default?: string;
  /** Expression of `GENERATED ALWAYS AS (…)`. */
  readonly generated?: { readonly expression: string; readonly kind: 'stored' | 'virtual' };
  /** Identity, or a serial's own sequence. */
  readonly sequence?: PostgresSequence;
  /** Only when it is not the type's own: `schema."Name"`, quoted where needed. */
  readonly collation?: string;
  /** Is binary COPY of this column the same bytes for every server that has the type (exact.ts)? */
  readonly binary: boolean;
};

export type PostgresSequence = {
  readonly name: TableName;
  readonly kind: 'identity always' | 'identity default' | 'serial';
  /** Does it belong to this very column (and goes with it), or is it only used by its default? */
  readonly owned: boolean;
  readonly type: string;
  /** int8 as text. */
  readonly start: string;
  readonly increment: string;
  readonly min: string;
  readonly max: string;
  readonly cache: string;
  readonly cycle: boolean;
  /** Last value given out, read when described; null when never used or not readable. Read again at the end of a run. */
  readonly last: string | null;
};

export type PostgresUserType = {
  readonly name: TableName;
  readonly kind: 'enum' | 'domain' | 'composite' | 'range';
  /** Set when it cannot be made elsewhere by `definition` alone: why. */
  readonly obstacle?: string;
  /** What follows `CREATE TYPE "s"."n" ` or `CREATE DOMAIN "s"."n" `. */
  readonly definition: string;
  readonly labels?: readonly string[];
  /** Of a range on 14 and later: the name of its multirange type. */
  readonly multirange?: TableName;
  readonly comment?: string;
};

export type PostgresConstraint = {
  readonly name: string;
  readonly kind: 'primary key' | 'unique' | 'exclude' | 'check';
  /** pg_get_constraintdef: what follows `ADD CONSTRAINT name `. */
  readonly definition: string;
  /** Columns in order; empty for expressions. */
  readonly columns: readonly string[];
  readonly validated: boolean;
  readonly comment?: string;
};

export type PostgresIndex = {
  readonly name: string;
  /** pg_get_indexdef, complete. */
  readonly definition: string;
  /** The part of it behind `ON schema.table `: `USING btree (a, b) WHERE …`. */
  readonly using: string;
  readonly unique: boolean;
  readonly valid: boolean;
  readonly comment?: string;
};

export type PostgresForeignKey = {
  readonly name: string;
  /** pg_get_constraintdef: `FOREIGN KEY (a) REFERENCES s.t(b) ON DELETE …`. */
  readonly definition: string;
  readonly columns: readonly string[];
  readonly references: TableName;
  readonly referencedColumns: readonly string[];
  /** What follows `REFERENCES s.t(b)`: ` ON DELETE CASCADE DEFERRABLE`, or ''. */
  readonly rest: string;
  readonly validated: boolean;
  readonly comment?: string;
};

export type PostgresPartitioning = {
  /** pg_get_partkeydef: `RANGE (created_at)`. */
  readonly key: string;
  /** Every relation below, parents before children. */
  readonly parts: readonly {
    readonly name: TableName;
    readonly parent: TableName;
    /** `FOR VALUES FROM (…) TO (…)` or `DEFAULT`. */
    readonly bound: string;
    /** Set when it is partitioned itself. */
    readonly key?: string;
  }[];
};

export type PostgresKeyIndex = {
  readonly name: string;
  /** As in the index, in its order. Types spelled with schema where not built in. */
  readonly columns: readonly { readonly name: string; readonly type: string; readonly collation?: string }[];
};

/** The extras of a table of a PostgreSQL source, else undefined. */
export const postgresExtras = (table: Table): PostgresExtras | undefined => {
  const extras = table.extras as PostgresExtras | undefined;
  return extras?.system === 'postgres' ? extras : undefined;
};
