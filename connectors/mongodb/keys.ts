/**
 * The keys of a mirrored collection, in the order of their canonical texts, which for keys of one type is that of the index
 * of `_id`: numbers, strings, ObjectIds, UUIDs, dates, bools. Keys of several types have no order that another system knows
 * (MODE_REFUSED). Numbers that are texts at the target (`documents: fields`) are sorted as texts by the server, in one range;
 * so are strings of a collection whose collation orders them in another way than by their bytes.
 */
import { BSON, type Document } from 'mongodb';
import { GodwitError } from '../../errors.ts';
import { type KeyBatch, type KeyRange, type ReadKeys, type SplitOptions, type Table, tableText } from '../contract.ts';
import { boundsFilter, keyBounds, knowsOldTypes } from './bounds.ts';
import { behindName, bson, int32 } from './bson.ts';
import { columnNamed, type MongoExtras, mongoExtras } from './extras.ts';
import { type KeyKind, keyKinds, keyText, keyValue } from './key-texts.ts';
import { coarseFilter } from './predicates.ts';
import { rawBatches } from './raw.ts';
import { assertUnchanged, placed, Scan } from './read.ts';
import type { LazySession, Session } from './session.ts';
import { boundsAfter, rowsPerChunk } from './split.ts';

const refused = (table: Table, why: string): GodwitError => {
  const name = tableText(table.name);
  return new GodwitError('MODE_REFUSED', `${name}: ${why}.`, { table: name });
};

/** `sorted`: the index has them in another order than their texts; the server sorts them. */
type Keys = { readonly kind: KeyKind; readonly sorted: boolean; readonly extras: MongoExtras };

async function keysOf(session: Session, table: Table, key: readonly string[]): Promise<Keys> {
  const extras = mongoExtras(table);
  const column = extras && key.length === 1 ? columnNamed(extras, key[0] as string) : undefined;
  if (!extras || column?.path.join('.') !== '_id' || extras.kind !== 'collection') {
    throw refused(table, 'mirroring compares `_id`, and the key is another');
  }
  const { form } = column;
  if (form === 'exact json')
    throw refused(
      table,
      'its `_id` is of several types, which have no order another system knows; mirroring cannot compare them',
    );
  const kind = form === 'str' ? await kindFound(session, table) : keyKinds[form];
  if (!kind) throw refused(table, `mirroring cannot compare an \`_id\` of type ${form}`);
  const sorted = (form === 'str' && kind === 'number') || (kind === 'string' && extras.collated);
  return { kind, sorted, extras };
}

/** Of keys that became texts (`documents: fields`): what they are at the source. */
async function kindFound(session: Session, table: Table): Promise<KeyKind> {
  const ends = await Promise.all([1, -1].map((way) => endOf(session, table, way)));
  const found = new Set(ends.filter((kind) => kind !== undefined));
  if (found.has('other'))
    throw refused(
      table,
      'mirroring compares an `_id` that is text, ObjectId, UUID or a whole number; set `documents` to flatten, json or raw for others',
    );
  if (found.size > 1)
    throw refused(
      table,
      'its `_id` is of several types, which have no order another system knows; mirroring cannot compare them',
    );
  const [kind = 'string'] = found;
  return kind as KeyKind;
}

async function endOf(session: Session, table: Table, way: number): Promise<KeyKind | 'other' | undefined> {
  const find = { find: table.name.name, projection: { _id: 1 }, sort: { _id: way }, limit: 1, hint: { _id: 1 } };
  for await (const { b, start } of rawBatches(session, find, {
    signal: new AbortController().signal,
    bytes: 65_536,
    averageBytes: 100,
  })) {
    const { type, at } = idIn(b, behindName(b, start + 1));
    if (type === bson.int || type === bson.long) return 'number';
    return (
      (['string', 'objectId', 'uuid'] as const).find((kind) => keyText(kind, b, type, at) !== undefined) ?? 'other'
    );
  }
  return undefined;
}

/** Where the `_id` of a document lies that has nothing else, or has it first. */
function idIn(b: Buffer, document: number): { type: number; at: number } {
  const type = b[document + 4] as number;
  return { type, at: behindName(b, document + 5) };
}

export async function* keyRangesOf(
  lazy: LazySession,
  table: Table,
  key: readonly string[],
  options: SplitOptions,
): AsyncGenerator<KeyRange> {
  options.signal.throwIfAborted();
  const { size, after, signal } = options;
  const session = await lazy.get();
  const { kind, sorted } = await session.read(() => keysOf(session, table, key));
  const begun = (after?.bounds as KeyRange | undefined)?.upto;
  const first = begun ? { after: begun } : {};
  const small = table.rows >= 0 && table.rows <= size.rows;
  if (sorted || kind === 'bool' || (small && !begun)) {
    yield first;
    return;
  }
  const old = await session.read(() => knowsOldTypes(session, table.name.name));
  const last = begun && keyValue(kind, begun[0] ?? '');
  let from: readonly string[] | undefined = begun;
  for await (const value of boundsAfter(session, table, { last, rows: rowsPerChunk(table, size), old, signal })) {
    const text = textOf(kind, value);
    // Of another type: `keys` says so. A fraction may be a double here and a decimal there, which are not equal.
    if (text === undefined || (kind === 'number' && text.includes('.'))) continue;
    yield { ...(from ? { after: from } : {}), upto: [text] };
    from = [text];
  }
  yield from ? { after: from } : {};
}

/** Of a value as the driver gives it with its types kept. */
function textOf(kind: KeyKind, value: unknown): string | undefined {
  const b = Buffer.from(BSON.serialize({ _id: value }));
  const { type, at } = idIn(b, 0);
  return keyText(kind, b, type, at);
}

export async function* keysIn(
  lazy: LazySession,
  table: Table,
  key: readonly string[],
  range: KeyRange,
  want: ReadKeys,
): AsyncGenerator<KeyBatch> {
  const { signal } = want;
  signal.throwIfAborted();
  const name = tableText(table.name);
  try {
    const session = await lazy.get();
    const found = await session.read(() => keysOf(session, table, key));
    await assertUnchanged(session, table, found.extras);
    yield* readKeys(session, table, { found, range, want });
    signal.throwIfAborted();
    await assertUnchanged(session, table, found.extras);
  } catch (error) {
    throw signal.aborted ? signal.reason : placed(error, name);
  }
}

type Reading = { readonly found: Keys; readonly range: KeyRange; readonly want: ReadKeys };

async function* readKeys(session: Session, table: Table, { found, range, want }: Reading): AsyncGenerator<KeyBatch> {
  const { kind, sorted, extras } = found;
  const { where = [], signal } = want;
  // A filter is decided on the whole document.
  const scan =
    where.length > 0
      ? new Scan(table, extras, { ...want, columns: [], format: 'rows', batch: { rows: 1, bytes: 1 } })
      : undefined;
  if (scan && sorted && kind === 'number') {
    throw refused(
      table,
      'keys that are numbers at the source and texts at the target cannot be mirrored with a filter; set `documents: flatten`',
    );
  }
  const command = await keyCommand(session, table, { found, range, want });
  const options = {
    signal,
    bytes: 1024 * 1024,
    averageBytes: scan ? averageOf(table) : 40,
    where: { table: tableText(table.name) },
  };
  const shown: KeyKind = sorted && kind === 'number' ? 'string' : kind;
  // A member that lags lacks keys whose rows another one has given: they would be deleted.
  const primary = { ...options, fromPrimary: true };
  for await (const { b, start, end } of rawBatches(session, command, primary)) {
    const keys: string[] = [];
    for (let p = start; p < end; ) {
      const document = behindName(b, p + 1);
      p = document + int32(b, document);
      if (scan && !scan.take(b, document)) continue;
      const { type, at } = idIn(b, document);
      const text = keyText(shown, b, type, at);
      if (text === undefined) throw otherKey(table);
      keys.push(text);
    }
    if (keys.length > 0) yield keys;
  }
}

const averageOf = (table: Table): number => (table.rows > 0 && table.bytes > 0 ? table.bytes / table.rows : 1000);

async function keyCommand(session: Session, table: Table, { found, range, want }: Reading): Promise<Document> {
  const { kind, sorted } = found;
  const concern = session.replicated ? { readConcern: { level: 'majority' } } : {};
  const coarse = coarseFilter(table, want.where);
  if (sorted && kind === 'number') {
    const pipeline = [{ $project: { _id: { $toString: '$_id' } } }, { $sort: { _id: 1 } }];
    return { aggregate: table.name.name, pipeline, allowDiskUse: true, ...concern };
  }
  const [after, upto] = [range.after, range.upto].map((end) => end && keyValue(kind, end[0] ?? ''));
  const old =
    after === undefined && upto === undefined
      ? false
      : await session.read(() => knowsOldTypes(session, table.name.name));
  const bounds = boundsFilter({ id: 0, kind: 'keys', bounds: keyBounds(after, upto, old), rows: 0 });
  const filters = [bounds, coarse].filter((one) => one !== undefined);
  return {
    find: table.name.name,
    filter: filters.length > 1 ? { $and: filters } : (filters[0] ?? {}),
    ...(want.where && want.where.length > 0 ? {} : { projection: { _id: 1 } }),
    sort: { _id: 1 },
    ...(sorted ? { collation: { locale: 'simple' }, allowDiskUse: true } : { hint: { _id: 1 } }),
    ...concern,
  };
}

/** Never left out: what is not among the keys is deleted at the target. */
function otherKey(table: Table): GodwitError {
  const name = tableText(table.name);
  return new GodwitError('FIELDS_CHANGED', `${name}: an \`_id\` is of another type than the plan knows.`, {
    table: name,
    column: '_id',
  });
}
