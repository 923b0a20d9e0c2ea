/** Index definitions and options from one collection to another. */
import type { Db, Document } from 'mongodb';
import { numberOf } from '../errors.ts';
import type { Ownership } from './ownership.ts';

/** The collection's own errors: an index is left out for them, and said. */
const withoutIt: Readonly<Record<number, string>> = {
  11000: 'some documents break it',
  11001: 'some documents break it',
  67: 'the server cannot make it',
  72: 'the server does not know its options',
  85: 'another one is like it',
  86: 'another one has its name',
  171: 'a field it covers is an array in more than one place',
  197: 'its definition is not valid for this server',
};

export type Made = { readonly names: readonly string[]; readonly notes: readonly string[] };

/** One build for all where possible. An index that cannot be is left out and noted. Idempotent. */
export async function makeIndexes(db: Db, collection: string, indexes: readonly Document[]): Promise<Made> {
  if (indexes.length === 0) return { names: [], notes: [] };
  const make = (some: readonly Document[]) =>
    db.command({ createIndexes: collection, indexes: some, writeConcern: majority });
  try {
    await make(indexes);
    return { names: indexes.map(({ name }) => String(name)), notes: [] };
  } catch (error) {
    if (numberOf(error) === undefined) throw error;
  }
  const names: string[] = [];
  const notes: string[] = [];
  for (const index of indexes) {
    try {
      await make([index]);
      names.push(String(index.name));
    } catch (error) {
      const number = numberOf(error);
      const why = number === undefined ? undefined : withoutIt[number];
      if (why === undefined) throw error;
      notes.push(`index ${index.name} is left out: ${why} [${number}]`);
    }
  }
  return { names, notes };
}

const majority = { w: 'majority' } as const;

/** Validator and the like, when all documents are there. */
export async function changeOptions(db: Db, collection: string, options: Document): Promise<string[]> {
  const notes: string[] = [];
  for (const [name, value] of Object.entries(options)) {
    // Levels and actions speak of the validator, and go with it.
    if (name === 'validationLevel' || name === 'validationAction') continue;
    const { validationLevel, validationAction } = options;
    const more =
      name === 'validator'
        ? { ...(validationLevel && { validationLevel }), ...(validationAction && { validationAction }) }
        : {};
    try {
      await db.command({ collMod: collection, [name]: value, ...more, writeConcern: majority });
    } catch (error) {
      const number = numberOf(error);
      if (number === undefined || !refused.has(number)) throw error;
      notes.push(`option ${name} is left out: the server does not take it [${number}]`);
    }
  }
  return notes;
}

/** BadValue, FailedToParse, unknown command, InvalidOptions, not supported, not implemented, unknown field. */
const refused = new Set([2, 9, 59, 72, 115, 238, 40_415]);

/** What users made on the old collection, which the new one shall have too. */
export async function keptOf(db: Db, found: Ownership): Promise<{ indexes: Document[]; late: Document }> {
  const { there, owner, mine } = found;
  if (there?.type !== 'collection') return { indexes: [], late: {} };
  // Those that came from the source the last time come from it again, or are gone there.
  const ours = new Set(mine ? (owner?.indexes ?? []) : []);
  const all = await db.collection(there.name).listIndexes().toArray();
  const indexes = all
    .filter((index) => index.name !== '_id_' && !index.clustered && !ours.has(String(index.name)))
    .map(({ v, ns, background, ...definition }) => definition);
  const { validator, validationLevel, validationAction } = there.options;
  const late = validator && !mine ? { validator, validationLevel, validationAction } : {};
  return { indexes, late };
}
