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
  readonly duckdb: () => Promise<DuckDb>;
  readonly progress: (bytes: number) => void;
};

/** Stage 2 of a move: from what the source gives to what the target takes. */
export async function* transform(
  { work }: OpenTable,
  read: () => AsyncIterable<Batch>,
  { way, signal, spool, duckdb, progress }: Transforming,
): AsyncGenerator<Batch> {
  // The CSV of the columnar lane is the source's dialect, not a finished file.
  if (way.lane !== 'columnar' && way.readFormat === way.writeFormat) {
    if (way.readFormat === 'rows' && work.columns.some(mends)) {
      yield* mended(read() as AsyncIterable<RowsBatch>, work.columns);
      return;
    }
    yield* read();
    return;
  }
  const options = { spool, duckdb: await duckdb(), signal, progress };
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

/** One DuckDB per worker, opened when the first chunk needs it. */
export async function duckdbOf(deps: Deps): Promise<DuckDb> {
  deps.duckdb.opened ??= import('../transforms/duckdb.ts').then(({ openDuckDb }) =>
    openDuckDb({ spool: deps.config.spool, memoryBytes: deps.config.duckdbBytes * deps.config.slots }),
  );
  return await deps.duckdb.opened;
}
