/** What `Table.extras` of a MongoDB source holds: how its documents become rows. Plain JSON. */
import type { DocumentShape, Table } from '../contract.ts';
import type { Form } from './types.ts';

export type MongoExtras = {
  readonly system: 'mongodb';
  readonly as: DocumentShape['as'];
  /** By column name; every column is there. */
  readonly columns: Readonly<Record<string, MongoColumn>>;
  /**
   * Hash of the collection's UUID and options: a collection dropped and made again has another one. Servers that give no
   * UUID are only known by their options.
   */
  readonly storage: string;
  /** `timeseries` collections and views have no unique `_id`. */
  readonly kind: 'collection' | 'view' | 'timeseries';
  /** Has a default collation other than the binary one: its order of texts is not that of their bytes. */
  readonly collated: boolean;
  /** Canonical extended JSON of the options (validator, collation …) and indexes: only of shape `raw`. */
  readonly options?: string;
  readonly indexes?: readonly string[];
};

export type MongoColumn = {
  /** Names from the top of the document; empty = the document itself. */
  readonly path: readonly string[];
  readonly form: Form;
  /** A date outside of the years 1 to 9999 was seen. */
  readonly wide?: boolean;
};

export const mongoExtras = (table: Table): MongoExtras | undefined =>
  table.system === 'mongodb' ? (table.extras as MongoExtras | undefined) : undefined;

/** A document may have fields of any name, `constructor` too. */
export const columnNamed = ({ columns }: MongoExtras, name: string): MongoColumn | undefined =>
  Object.hasOwn(columns, name) ? columns[name] : undefined;
