/** The chunks of a table in their order: those that move rows, then, of a mirrored one, those that sweep. */
import type { Chunk, KeyRange, SplitOptions } from '../connectors/contract.ts';
import { GodwitError } from '../errors.ts';
import type { OpenTable } from './state.ts';

type Cut = Pick<OpenTable, 'source' | 'work' | 'options'>;
type How = Omit<SplitOptions, 'where' | 'range'>;

export async function* piecesOf({ source, work, options }: Cut, how: How): AsyncGenerator<Chunk> {
  const { after, ...always } = how;
  const { increment } = work;
  let last = after?.id ?? 0;
  if (after?.kind !== 'sweep') {
    // Only a source that can compare the column cuts by it.
    const range = increment?.compare === 'worker' ? undefined : increment?.range;
    const split = { ...how, where: whereOf({ work, options }), ...(range ? { range } : {}) };
    for await (const chunk of source.split(work.source, split)) {
      last = chunk.id;
      yield chunk;
    }
  }
  if (!sweeps(work, options)) return;
  if (!source.keyRanges) throw new GodwitError('INTERNAL', `${source.system} has no ranges of keys.`);
  const begun = after?.kind === 'sweep' ? (after.bounds as KeyRange).upto : undefined;
  if (after?.kind === 'sweep' && begun === undefined) return;
  // More than that many are not deleted, nor some of them: all is one step.
  if (options.maxDeleted) {
    yield { id: ++last, kind: 'sweep', bounds: {}, rows: 0 };
    return;
  }
  const key = sourceKey(work);
  const from: Chunk | undefined = begun && { id: last, kind: 'sweep', bounds: { upto: begun }, rows: 0 };
  for await (const range of source.keyRanges(work.source, key, { ...always, ...(from ? { after: from } : {}) })) {
    yield { id: ++last, kind: 'sweep', bounds: range, rows: 0 };
  }
}

/** The mapping's filter, and what a backfill asks for beside it. */
export const whereOf = ({ work, options }: Pick<OpenTable, 'work' | 'options'>) => [
  ...options.where,
  ...(work.increment?.where ?? []),
];

/** A full load is swapped in whole, and a backfill says nothing about the rows it does not read. */
const sweeps = (work: OpenTable['work'], { step }: OpenTable['options']): boolean =>
  work.mode === 'mirroring' && work.increment !== undefined && step !== 'backfill';

/** The key's columns by their names at the source, in the order of the target's key. */
export const sourceKey = (work: OpenTable['work']): string[] =>
  work.key.map((name) => work.columns.find((column) => column.name === name)?.from ?? name);
