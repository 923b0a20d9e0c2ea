/**
 * What `Table.extras` of a MySQL or MariaDB source holds: everything only another MySQL understands, as information_schema
 * tells it. Plain JSON. Expressions are in the server's own words, ready to be put into a definition; texts are raw.
 */
import type { Table, TableName } from '../contract.ts';
import type { Flavor } from './session.ts';

export type MysqlExtras = {
  readonly system: 'mysql';
  readonly flavor: Flavor;
  /** `[8, 4, 3]`. */
  readonly version: readonly [number, number, number];
  /** `InnoDB`; undefined for a view. */
  readonly engine?: string;
  readonly rowFormat?: string;
  /** The table's default: `utf8mb4_0900_ai_ci`. Columns name their own. */
  readonly collation?: string;
  readonly comment?: string;
  /** The next value of AUTO_INCREMENT, as text. */
  readonly autoIncrement?: string;
  /** By column name; every column is there. */
  readonly columns: Readonly<Record<string, MysqlColumn>>;
  /** Primary key first. A functional, FULLTEXT or SPATIAL index too. */
  readonly indexes: readonly MysqlIndex[];
  readonly foreignKeys: readonly MysqlForeignKey[];
  readonly checks: readonly MysqlCheck[];
  /** `PARTITION BY …`, whole, of a partitioned table; it is moved as one table. */
  readonly partitioning?: string;
  /** System-versioned (MariaDB): only its current rows are read. */
  readonly versioned?: boolean;
  /**
   * The storage generation: the ids of its tablespaces, or where the login may not see those the time it was made.
   * TRUNCATE and a rebuild give a table new ones. Empty for a view.
   */
  readonly storage: string;
  /** The index `key` stands on, for chunks; its leading columns that ranges can be made of. */
  readonly keyIndex?: { readonly name: string; readonly columns: readonly string[] };
};

export type MysqlColumn = {
  /** DATA_TYPE: `varchar`. */
  readonly type: string;
  /** COLUMN_TYPE: `varchar(20)`, without character set. */
  readonly spelled: string;
  readonly charset?: string;
  readonly collation?: string;
  /** What may stand behind DEFAULT: a literal (`'it''s'`, `b'101'`, `NULL`) or an expression, in brackets where needed. */
  readonly default?: string;
  /** What stands behind ON UPDATE: `CURRENT_TIMESTAMP(3)`. */
  readonly onUpdate?: string;
  readonly autoIncrement?: boolean;
  readonly invisible?: boolean;
  readonly generated?: { readonly expression: string; readonly kind: 'stored' | 'virtual' };
  /** The spatial reference system a geometry column is bound to (MySQL 8). */
  readonly srid?: number;
  /** MariaDB's JSON: a LONGTEXT that is checked by json_valid(). */
  readonly json?: boolean;
};

export type MysqlIndex = {
  /** `PRIMARY` for the primary key. */
  readonly name: string;
  readonly unique: boolean;
  /** BTREE, HASH, FULLTEXT, SPATIAL, RTREE. */
  readonly type: string;
  readonly parts: readonly MysqlIndexPart[];
  readonly comment?: string;
  /** Not used by the optimizer: INVISIBLE in MySQL, IGNORED in MariaDB. */
  readonly invisible?: boolean;
};

/** A column, maybe only its first `prefix` characters (bytes), or an expression. */
export type MysqlIndexPart = {
  readonly column?: string;
  readonly expression?: string;
  readonly prefix?: number;
  readonly descending?: boolean;
};

export type MysqlForeignKey = {
  readonly name: string;
  readonly columns: readonly string[];
  readonly references: TableName;
  readonly referencedColumns: readonly string[];
  /** `CASCADE`, `SET NULL`, `NO ACTION`, `RESTRICT`, `SET DEFAULT`. */
  readonly onUpdate: string;
  readonly onDelete: string;
};

export type MysqlCheck = {
  readonly name: string;
  readonly expression: string;
  readonly enforced: boolean;
  /** MariaDB: part of this column's definition. (That of a JSON column is not here: its type implies it.) */
  readonly column?: string;
};

export const mysqlExtras = (table: Table): MysqlExtras | undefined => {
  const extras = table.extras as Partial<MysqlExtras> | undefined;
  return extras?.system === 'mysql' ? (extras as MysqlExtras) : undefined;
};
