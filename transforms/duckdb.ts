/** The one DuckDB of a worker process: told its limits, shut off from the network and from every folder but its own. */
import { rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { sep } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { spoolFolder } from './spool.ts';

export type DuckDbOptions = {
  /** The spool: DuckDB reads and writes below this folder only. */
  readonly spool: string;
  /** Of all slots together (GODWIT_DUCKDB_MB × GODWIT_SLOTS). */
  readonly memoryBytes: number;
  /** What it may spill to disk. Default 8 × the memory. */
  readonly spillBytes?: number;
  /** Default: half of the processors, at most 8: the source and the other slots need the rest, each thread its buffers. */
  readonly threads?: number;
};

export interface DuckDb extends AsyncDisposable {
  readonly options: DuckDbOptions;
  /** The caller closes it. */
  connect(): Promise<DuckDBConnection>;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Opens an instance; the caller disposes of it. */
export async function openDuckDb(options: DuckDbOptions): Promise<DuckDb> {
  const spill = await spoolFolder(options.spool);
  const instance = await DuckDBInstance.create(':memory:', {
    threads: String(options.threads ?? Math.max(1, Math.min(8, availableParallelism() >> 1))),
    memory_limit: `${Math.ceil(options.memoryBytes / 1024)}KiB`,
    temp_directory: spill,
    max_temp_directory_size: `${Math.ceil((options.spillBytes ?? options.memoryBytes * 8) / 1024)}KiB`,
    // The order within a table is no promise of a file target; keeping it costs a third of the speed.
    preserve_insertion_order: 'false',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  });
  const connection = await instance.connect();
  await connection.run("SET GLOBAL TimeZone = 'UTC'");
  // Memory a chunk has freed goes back to the system, not only to the allocator: the worker has other things to do.
  await connection.run("SET allocator_flush_threshold = '16MiB'");
  await connection.run("SET allocator_bulk_deallocation_flush_threshold = '32MiB'");
  await connection.run(`SET allowed_directories = [${quoted(options.spool + sep)}]`);
  await connection.run('SET enable_external_access = false');
  await connection.run('SET lock_configuration = true');
  connection.closeSync();
  // A worker that just exits must not leave the folder; one that is killed leaves it to `sweepSpool`.
  const gone = () => rmSync(spill, { recursive: true, force: true });
  process.once('exit', gone);
  return {
    options,
    connect: () => instance.connect(),
    async [Symbol.asyncDispose]() {
      process.off('exit', gone);
      instance.closeSync();
      await rm(spill, { recursive: true, force: true });
    },
  };
}
