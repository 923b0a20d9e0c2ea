/**
 * What of a source collection's definition goes to its copy: only from MongoDB, and only where documents go as they are.
 * Rows of other systems get the index of `_id` and no other.
 */
import { BSON, type Document } from 'mongodb';
import type { Work } from '../../contract.ts';
import { mongoExtras } from '../extras.ts';

export type Definition = {
  /** Given when the collection is made: they cannot be changed later. */
  readonly options: Document;
  /** Given when all documents are there: they may break the validator, as they may at the source. */
  readonly late: Document;
  readonly indexes: readonly Document[];
  readonly notes: readonly string[];
};

/** Of the options that MongoDB lists for a collection. */
const kept = ['collation', 'clusteredIndex', 'storageEngine'];
const keptLate = ['validator', 'validationLevel', 'validationAction', 'changeStreamPreAndPostImages'];

export function definitionOf(work: Work): Definition {
  const extras = mongoExtras(work.source);
  if (extras?.as !== 'raw') return { options: {}, late: {}, indexes: [], notes: [] };
  const options = extras.options === undefined ? {} : (BSON.EJSON.parse(extras.options, { relaxed: true }) as Document);
  const indexes = (extras.indexes ?? []).map((text) => BSON.EJSON.parse(text, { relaxed: true }) as Document);
  const notes: string[] = [];
  if (options.capped === true) {
    notes.push(
      'the source is a capped collection; its copy is an ordinary one, since a cap goes by the order of writing',
    );
  }
  const known = new Set([...kept, ...keptLate, 'capped', 'size', 'max', 'viewOn', 'pipeline', 'uuid', 'autoIndexId']);
  const left = Object.keys(options).filter((name) => !known.has(name));
  if (left.length > 0 && extras.kind === 'collection') notes.push(`not carried from the source: ${left.join(', ')}`);
  return {
    options: only(options, kept),
    late:
      work.mode === 'replace' || work.mode === 'dumping' ? only(options, keptLate) : withoutValidator(options, notes),
    indexes: indexes
      .filter((index) => index.name !== '_id_' && !index.clustered)
      .map(asWanted(work, options.collation !== undefined, notes)),
    notes,
  };
}

/** Documents come in any order, and some stay that are gone at the source: a validator could stop what is decided already. */
function withoutValidator(options: Document, notes: string[]): Document {
  if (options.validator)
    notes.push('the validator is not carried: a table that is kept up to date takes what the source had');
  return only(options, ['changeStreamPreAndPostImages']);
}

export const creationOptions = (work: Work): Pick<Definition, 'options'> => {
  const { options } = definitionOf(work);
  // A snapshot's key is a document: a clustered index takes any, but time to live has no place there.
  return { options: work.mode === 'replace' ? options : only(options, ['collation']) };
};

const only = (options: Document, names: readonly string[]): Document =>
  Object.fromEntries(Object.entries(options).filter(([name]) => names.includes(name)));

/**
 * A snapshot holds each document once more: nothing is unique but `_id`, and nothing goes by itself when its time is over
 * (decision 15). Nor in a table of an incremental mode, where documents that are gone at the source stay and others come in
 * any order.
 */
const asWanted =
  (work: Work, collated: boolean, notes: string[]) =>
  (index: Document): Document => {
    const { v, ns, background, ...rest } = index;
    const definition = collated && rest.collation === undefined && isOrdered(rest) ? { ...rest, ...simple } : rest;
    if (work.mode === 'replace') return definition;
    const { unique, expireAfterSeconds, prepareUnique, ...plain } = definition;
    const here = work.mode === 'dumping' ? 'in a table of snapshots' : 'in a table that is kept up to date';
    if (unique) notes.push(`index ${index.name}: unique at the source; not ${here}`);
    if (expireAfterSeconds !== undefined)
      notes.push(`index ${index.name}: has a time to live at the source; none here`);
    return plain;
  };

/** An index without a collation is of bytes; made in a collection that has one it would get that. */
const simple = { collation: { locale: 'simple' } };
/** Text, hashed and the like know no collation. */
const isOrdered = ({ key }: Document): boolean => Object.values(key ?? {}).every((way) => typeof way === 'number');
