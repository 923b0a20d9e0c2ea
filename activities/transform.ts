import type { Batch, BytesBatch, RowsBatch } from '../connectors/contract.ts';
import { GodwitError } from '../errors.ts';
import type { DuckDb } from '../transforms/duckdb.ts';
import { mended, mends } from '../transforms/mend.ts';
import type { Deps } from './deps.ts';
import type { Way } from './read.ts';
import type { OpenTable } from './state.ts';

export type Transforming = {
  readonly way: Way;
  readonly signal: AbortSignal;
  readonly spool: string;
  readonly duckdb: () => Promise<BorrowedDuckDb>;
  readonly progress: (bytes: number) => void;
};

/** Stage 2 of a move: from what the source gives to what the target takes. */
export async function* transform(
  { work, target }: Pick<OpenTable, 'work' | 'target'>,
  read: () => AsyncIterable<Batch>,
  { way, signal, spool, duckdb, progress }: Transforming,
): AsyncGenerator<Batch> {
  // The CSV of the columnar lane is the source's dialect, not a finished file.
  if (way.lane !== 'columnar' && way.readFormat === way.writeFormat) {
    if (way.readFormat === 'rows' && work.columns.some(mends)) {
      yield* mended(read() as AsyncIterable<RowsBatch>, work.columns, target.holds);
      return;
    }
    yield* read();
    return;
  }
  await using borrowed = await duckdb();
  const options = { spool, duckdb: borrowed.it, signal, progress };
  const shaped = { ...work, writeFormat: way.writeFormat };
  switch (way.lane) {
    case 'columnar': {
      const { toParts } = await import('../transforms/columnar.ts');
      yield* toParts(read as () => AsyncIterable<BytesBatch>, shaped, options);
      return;
    }
    case 'rows': {
      const { rowsToParts } = await import('../transforms/rows.ts');
      yield* rowsToParts(read() as AsyncIterable<RowsBatch>, shaped, options);
      return;
    }
    case 'direct':
      throw new GodwitError('INTERNAL', `The direct lane cannot turn ${way.readFormat} into ${way.writeFormat}.`);
  }
}

export type BorrowedDuckDb = AsyncDisposable & { readonly it: DuckDb };

/** Its memory goes back to the system when nobody has used it for so long: the next chunk opens another in some milliseconds. */
const idleMs = 5_000;

/** One DuckDB per worker, opened when the first chunk needs it, closed when none does. */
export async function borrowDuckDb({ duckdb, config }: Deps): Promise<BorrowedDuckDb> {
  duckdb.users = (duckdb.users ?? 0) + 1;
  clearTimeout(duckdb.idle);
  const give = async () => {
    duckdb.users = (duckdb.users ?? 1) - 1;
    if (duckdb.users > 0) return;
    clearTimeout(duckdb.idle);
    duckdb.idle = setTimeout(() => void closeDuckDb(duckdb).catch(() => {}), idleMs).unref();
  };
  duckdb.opened ??= import('../transforms/duckdb.ts').then(({ openDuckDb }) =>
    openDuckDb({ spool: config.spool, memoryBytes: config.duckdbBytes * config.slots }),
  );
  try {
    return { it: await duckdb.opened, [Symbol.asyncDispose]: give };
  } catch (error) {
    duckdb.opened = undefined;
    await give();
    throw error;
  }
}

/** Of a worker that stops, or of one that had nothing to type for a while. */
export async function closeDuckDb(duckdb: Deps['duckdb']): Promise<void> {
  clearTimeout(duckdb.idle);
  const { opened } = duckdb;
  duckdb.opened = undefined;
  await (await opened?.catch(() => undefined))?.[Symbol.asyncDispose]();
}
