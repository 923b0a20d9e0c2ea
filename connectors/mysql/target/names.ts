/** Names on the way: short, of one hash, so that names of 64 characters, in mixed case or reserved never meet. */
import { createHash } from 'node:crypto';
import type { TableName, Work } from '../../contract.ts';
import { tableIdent } from '../sql.ts';

/**
 * Where Godwit's own tables and stagings lie on the server: a database of their own, or beside the target's tables, with a
 * prefix, for a login that may not have a second database.
 */
export type Books = { readonly database: string; readonly prefix: string };

export const inBooks = ({ database, prefix }: Books, name: string): TableName => ({
  schema: database,
  name: `${prefix}${name}`,
});

/** A table of the ledger in a statement. */
export const book = (books: Books, name: string): string => tableIdent(inBooks(books, name));

/** What a unit of work is known by on the target. */
export const idOf = (work: Work): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        work.installation,
        work.jobUid,
        work.target,
        work.run,
        work.name.schema,
        work.name.name,
        work.generation,
      ]),
    )
    .digest('hex')
    .slice(0, 32);

export const stagingOf = (books: Books, id: string): TableName => inBooks(books, `t_${id}`);
/** The table that was published before, between the swap and its end. */
export const oldOf = (books: Books, id: string): TableName => inBooks(books, `o_${id}`);

/** Where the rows go: dumping appends to the final table, replace fills a staging. */
export const receiverOf = (books: Books, work: Work): TableName =>
  work.mode === 'dumping' ? work.name : stagingOf(books, idOf(work));
