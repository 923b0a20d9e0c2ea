/** A DuckDB of the target's own for finished parts (the transforms' one is not a connector's to know): small, shut off. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join, sep } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { literal } from './relation.ts';

const memory = '192MiB';
const spill = '8GiB';

export interface PartsDb extends AsyncDisposable {
  /** A new folder that DuckDB may use; gone with what is returned. */
  folder(): Promise<AsyncDisposable & { readonly path: string }>;
  /** The first column of the first row: of a COPY how many rows it wrote. `signal` ends it. */
  run(sql: string, signal?: AbortSignal): Promise<number>;
}

/** Opened with the first use. Folders are named as those of the spool, so that what a killed worker leaves is swept with them. */
export function openPartsDb(spool: string): PartsDb {
  const owner = `${hostname().replaceAll(/[^A-Za-z0-9.-]/g, '_')}~${process.pid}~`;
  const made = async () => {
    await mkdir(spool, { recursive: true });
    return await mkdtemp(join(spool, owner));
  };
  let opened: ReturnType<typeof open> | undefined;
  async function open() {
    const { DuckDBInstance } = await import('@duckdb/node-api');
    const temporary = await made();
    const instance = await DuckDBInstance.create(':memory:', {
      threads: '2',
      memory_limit: memory,
      temp_directory: temporary,
      max_temp_directory_size: spill,
      preserve_insertion_order: 'false',
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
    });
    const connection = await instance.connect();
    for (const setting of [
      "SET GLOBAL TimeZone = 'UTC'",
      `SET allowed_directories = [${literal(spool + sep)}]`,
      'SET enable_external_access = false',
      'SET lock_configuration = true',
    ]) {
      await connection.run(setting);
    }
    connection.closeSync();
    return { instance, temporary };
  }
  return {
    async folder() {
      const path = await made();
      return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
    },
    async run(sql, signal) {
      signal?.throwIfAborted();
      opened ??= open();
      const { instance } = await opened;
      const connection: DuckDBConnection = await instance.connect();
      const interrupt = () => connection.interrupt();
      signal?.addEventListener('abort', interrupt);
      try {
        const result = await connection.runAndReadAll(sql);
        return Number(result.getRows()[0]?.[0] ?? 0);
      } catch (error) {
        signal?.throwIfAborted();
        throw error;
      } finally {
        signal?.removeEventListener('abort', interrupt);
        connection.closeSync();
      }
    },
    async [Symbol.asyncDispose]() {
      if (!opened) return;
      const { instance, temporary } = await opened;
      opened = undefined;
      instance.closeSync();
      await rm(temporary, { recursive: true, force: true });
    },
  };
}
