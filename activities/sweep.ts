/** A sweep chunk of a mirrored table: what vanished from a range of keys at the source is deleted at the target. */
import { sql } from 'drizzle-orm';
import type { Chunk, Claim, Counts, KeyBatch, KeyRange, Source, Target, Work } from '../connectors/contract.ts';
import { tableText } from '../connectors/contract.ts';
import type { LogicalType } from '../connectors/types.ts';
import { chunks } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { Deps } from './deps.ts';
import type { Moving } from './move.ts';
import { sourceKey } from './pieces.ts';
import type { OpenTable } from './state.ts';

/**
 * Counts and hashes first where both sides compute the same; the keys themselves only where they differ. All of a range is
 * deleted in one step with its checkpoint, after the source has said that it gave all its keys: a read that failed or
 * came back short deletes nothing. The target is read first, so that a row which comes meanwhile is never taken for one
 * that vanished.
 */
export async function sweepChunk(deps: Deps, table: OpenTable, claim: Claim, moving: Moving): Promise<Counts> {
  const { source, target, work, options } = table;
  const { signal } = moving;
  if (!source.keys || !target.keys || !target.deleteKeys) {
    throw new GodwitError('INTERNAL', `Keys of ${source.system} and ${target.system} cannot be compared.`);
  }
  const range = claim.chunk.bounds as KeyRange;
  const want = { snapshot: moving.snapshot, where: options.where, signal };
  const differs = await differing(source, target, work, range, want);
  if (!differs) return await target.deleteKeys(work, claim, none(), signal);
  const vanished = missingFrom(
    target.keys(work, differs, signal),
    () => source.keys?.(work.source, sourceKey(work), differs, want) ?? none(),
    comparer(keyTypes(work)),
  );
  const limited = limitedTo(await limitOf(deps, table, claim.chunk, moving), vanished, work);
  return await target.deleteKeys(work, claim, limited, signal);
}

async function* none(): AsyncGenerator<KeyBatch> {}

/** What of the range must be compared key by key: undefined when both sides have the same keys. */
async function differing(
  source: Source,
  target: Target,
  work: Work,
  range: KeyRange,
  want: Parameters<NonNullable<Source['digest']>>[3],
): Promise<KeyRange | undefined> {
  if (!source.digest || !target.digest || source.digestKind === undefined) return range;
  if (source.digestKind !== target.digestKind) return range;
  const [there, here] = await Promise.all([
    target.digest(work, range, want.signal),
    source.digest(work.source, sourceKey(work), range, want),
  ]);
  if (there.count === here.count && there.hash === here.hash) return undefined;
  if (!there.parts || there.parts.by !== here.parts?.by) return range;
  const others = here.parts.of;
  const only = [...there.parts.of].filter(([part, digest]) => others.get(part) !== digest).map(([part]) => part);
  // What the source alone has is no matter of a sweep.
  if (only.length === 0) return undefined;
  return only.length * 2 > there.parts.of.size ? range : { ...range, only };
}

const keyTypes = (work: Work): LogicalType[] =>
  work.key.map((name) => work.columns.find((column) => column.name === name)?.type ?? { kind: 'text' });

type Compare = (a: string, b: string) => number;

/** Keys of `all` that are not in `others`; both in ascending order. `others` is begun when the first key of `all` is there. */
export async function* missingFrom(
  all: AsyncIterable<KeyBatch>,
  others: () => AsyncIterable<KeyBatch>,
  compare: Compare,
): AsyncGenerator<KeyBatch> {
  const mine = walker(all, compare);
  const theirs = walker({ [Symbol.asyncIterator]: () => others()[Symbol.asyncIterator]() }, compare);
  try {
    if (!(await mine.fill())) return;
    let more = await theirs.fill();
    let found: string[] = [];
    for (;;) {
      // Within what both have in hand no promise is waited for.
      while (mine.at < mine.batch.length && (!more || theirs.at < theirs.batch.length)) {
        const key = mine.batch[mine.at] as string;
        const order = more ? compare(key, theirs.batch[theirs.at] as string) : -1;
        if (order < 0) found.push(key);
        if (order <= 0) mine.at++;
        if (order >= 0) theirs.at++;
      }
      if (found.length >= 10_000) {
        yield found;
        found = [];
      }
      if (mine.at >= mine.batch.length && !(await mine.fill())) break;
      if (more && theirs.at >= theirs.batch.length) more = await theirs.fill();
    }
    // To its regular end: only then is what was not met known to be gone.
    while (more) more = await theirs.fill();
    if (found.length > 0) yield found;
  } finally {
    await mine.close();
    await theirs.close();
  }
}

function walker(batches: AsyncIterable<KeyBatch>, compare: Compare) {
  let iterator: AsyncIterator<KeyBatch> | undefined;
  let last: string | undefined;
  const self = {
    batch: [] as KeyBatch,
    at: 0,
    async fill(): Promise<boolean> {
      iterator ??= batches[Symbol.asyncIterator]();
      for (;;) {
        const next = await iterator.next();
        if (next.done) return false;
        const [first] = next.value;
        if (first === undefined) continue;
        if (last !== undefined && compare(last, first) >= 0) {
          throw new GodwitError(
            'INTERNAL',
            'Keys came in another order than they are compared in; nothing is deleted.',
          );
        }
        last = next.value.at(-1);
        self.batch = next.value;
        self.at = 0;
        return true;
      }
    },
    async close(): Promise<void> {
      await iterator?.return?.();
    },
  };
  return self;
}

/** May the keys of a table be compared, though its target holds them as another type? Only if both come in one order. */
export const sameOrder = (a: LogicalType, b: LogicalType): boolean => orderOf(a) === orderOf(b);

/** The order that `KeyBatch` promises, per type. */
export function comparer(types: readonly LogicalType[]): Compare {
  const [only, ...more] = types.map(orderOf);
  if (more.length === 0) return only ?? plain;
  const each = [only ?? plain, ...more];
  return (a, b) => {
    const left = a.split('\0');
    const right = b.split('\0');
    for (const [i, compare] of each.entries()) {
      const order = compare(left[i] ?? '', right[i] ?? '');
      if (order !== 0) return order;
    }
    return 0;
  };
}

function orderOf({ kind }: LogicalType): Compare {
  switch (kind) {
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64':
      return wholeNumbers;
    case 'decimal':
    case 'float32':
    case 'float64':
      return decimals;
    case 'text':
    case 'enum':
      return texts;
    default:
      return plain;
  }
}

const plain: Compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

const wholeNumbers: Compare = (a, b) => {
  if (a === b) return 0;
  if (a.length < 16 && b.length < 16) return Number(a) - Number(b);
  const [left, right] = [BigInt(a), BigInt(b)];
  return left < right ? -1 : left > right ? 1 : 0;
};

/** In plain notation; `1.0` and `1.00` are one key. */
const decimals: Compare = (a, b) => {
  if (a === b) return 0;
  const [x, y] = [rank(a), rank(b)];
  if (x !== 0 || y !== 0) return x - y;
  const scale = Math.max(fraction(a), fraction(b));
  const scaled = (text: string) => BigInt(text.replace('.', '') + '0'.repeat(scale - fraction(text)));
  const [left, right] = [scaled(a), scaled(b)];
  return left < right ? -1 : left > right ? 1 : 0;
};
/** Infinities are at the ends, and NaN, as PostgreSQL has it, above all. */
const rank = (text: string): number => (text === 'NaN' ? 2 : text === 'Infinity' ? 1 : text === '-Infinity' ? -1 : 0);
const fraction = (text: string): number => {
  const point = text.indexOf('.');
  return point < 0 ? 0 : text.length - point - 1;
};

/** By the bytes of UTF-8: as code units, but for surrogates, which stand for what is greater than all others. */
const texts: Compare = (a, b) => {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    const [high, other] = [x >= 0xd800 && x <= 0xdfff, y >= 0xd800 && y <= 0xdfff];
    return high === other ? x - y : high ? 1 : -1;
  }
  return a.length - b.length;
};

/** How many more may be deleted. */
async function limitOf(deps: Deps, { options, row }: OpenTable, chunk: Chunk, { args }: Moving): Promise<number> {
  const { maxDeleted } = options;
  if (!maxDeleted) return Number.POSITIVE_INFINITY;
  const most = 'rows' in maxDeleted ? maxDeleted.rows : Math.floor(Math.max(0, row.estimatedRows) * maxDeleted.share);
  const [done] = await deps.db
    .select({ rows: sql<number>`coalesce(sum(${chunks.rowsDeleted}), 0)::float8` })
    .from(chunks)
    .where(
      sql`run_id = ${args.runId} AND ordinal = ${args.ordinal} AND generation = ${args.generation} AND chunk <> ${chunk.id} AND status = 'done'`,
    );
  return most - (done?.rows ?? 0);
}

async function* limitedTo(most: number, keys: AsyncIterable<KeyBatch>, work: Work): AsyncGenerator<KeyBatch> {
  let count = 0;
  for await (const batch of keys) {
    count += batch.length;
    if (count > most) {
      const table = tableText(work.source.name);
      const message = `${table}: more rows vanished at the source than max_deleted lets be deleted at ${tableText(work.name)}; these are not deleted.`;
      throw new GodwitError('DELETES_REFUSED', message, { table, target: work.target });
    }
    yield batch;
  }
}
