/** Names on the way: short, of one hash, so that names of 64 characters, in mixed case or reserved never meet. */
import { createHash } from 'node:crypto';
import { swapsIn, type TableName, type Work } from '../../contract.ts';
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

/** One session's temporary table, of the rows of one chunk on their way into the table that is there. */
export const besideOf = (books: Books, id: string): TableName => inBooks(books, `i_${id}`);

/** Where the rows end up before the table is published: a new table in its staging, all others where they stay. */
export const receiverOf = (books: Books, work: Work): TableName =>
  swapsIn(work) ? stagingOf(books, idOf(work)) : work.name;

/** What is remembered of a table between runs is found by this. */
export const stateIdOf = ({ installation, jobUid, target, name }: Work): string =>
  createHash('sha256')
    .update(JSON.stringify([installation, jobUid, target, name.schema, name.name]))
    .digest('hex')
    .slice(0, 32);
