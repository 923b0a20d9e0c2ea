/** The worker's scratch folder: one sub-folder per piece of work, gone when the work is. */
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import type { BytesBatch } from '../connectors/contract.ts';
import { GodwitError } from '../errors.ts';

const owner = `${hostname().replaceAll(/[^A-Za-z0-9.-]/g, '_')}~${process.pid}~`;

/** A new folder below the spool; the caller removes it. Its name says whose it is, for `sweepSpool`. */
export async function spoolFolder(spool: string): Promise<string> {
  try {
    await mkdir(spool, { recursive: true });
    return await mkdtemp(join(spool, owner));
  } catch (error) {
    throw spoolError(error);
  }
}

/** Removes what killed processes of this machine left behind. Called once at a worker's start. */
export async function sweepSpool(spool: string): Promise<void> {
  for (const name of await readdir(spool).catch(() => [])) {
    const [host, pid] = name.split('~');
    if (name.split('~').length !== 3 || host !== owner.split('~')[0] || alive(Number(pid))) continue;
    await rm(join(spool, name), { recursive: true, force: true });
  }
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

const full = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

export const spoolError = (error: unknown): unknown =>
  full.has((error as NodeJS.ErrnoException)?.code ?? '')
    ? new GodwitError('LOCAL_DISK_FULL', "There is no room left in the worker's spool folder; nothing was written.", {
        cause: error,
      })
    : error;

export type SpooledCsv = { readonly path: string; readonly longestRow: number; readonly rows: number | undefined };

/** Writes the whole stream to a file and measures its longest row. */
export async function spoolCsv(path: string, batches: AsyncIterable<BytesBatch>): Promise<SpooledCsv> {
  const file = createWriteStream(path);
  const closed = finished(file).catch((error: unknown) => {
    throw spoolError(error);
  });
  closed.catch(() => {});
  const measure = rowMeasure();
  let rows: number | undefined;
  try {
    for await (const batch of batches) {
      for (const bytes of batch.bytes) {
        measure.add(bytes);
        if (!file.write(bytes)) await Promise.race([once(file, 'drain'), closed]);
      }
      rows = batch.rows ?? rows;
    }
    file.end();
    await closed;
  } finally {
    file.destroy();
  }
  return { path, longestRow: measure.longest(), rows };
}

/** Rows of a file; of CSV the header too. In NDJSON every line feed ends a row, and quotes say nothing. */
export async function countRows(path: string, format: 'csv' | 'ndjson'): Promise<number> {
  const measure = rowMeasure(format === 'csv');
  for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 })) measure.add(bytes as Buffer);
  return measure.rows();
}

/** Rows end at line feeds outside of quotes; a doubled quote flips the state twice. */
function rowMeasure(quotes = true) {
  let longest = 0;
  let length = 0;
  let rows = 0;
  let inQuotes = false;
  return {
    add(bytes: Uint8Array) {
      for (let i = 0; i < bytes.length; i++) {
        const byte = bytes[i];
        length++;
        if (byte === 34 && quotes) inQuotes = !inQuotes;
        else if (byte === 10 && !inQuotes) {
          if (length > longest) longest = length;
          length = 0;
          rows++;
        }
      }
    },
    longest: () => Math.max(longest, length),
    rows: () => rows,
  };
}
