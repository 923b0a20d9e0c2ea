/** A named pipe from Node to DuckDB. Neither its opening nor its writing takes a thread of libuv's pool. */
import { execFile } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** False where the system has no named pipes. */
export async function makeFifo(path: string): Promise<boolean> {
  if (process.platform === 'win32') return false;
  try {
    await run('mkfifo', ['-m', '600', path]);
    return true;
  } catch {
    return false;
  }
}

export interface FifoWriter {
  /** Resolves when the pipe has taken everything. Rejects when the reader is gone. */
  write(chunks: readonly Uint8Array[]): Promise<void>;
  /** The reader sees the end of the file. */
  close(): void;
}

/** Waits for the reader; undefined when `stopped` becomes true before one came. */
export async function openFifo(path: string, stopped: () => boolean): Promise<FifoWriter | undefined> {
  for (;;) {
    if (stopped()) return undefined;
    try {
      return writer(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
    } catch (error) {
      // ENXIO: nobody reads yet.
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
    }
    await sleep(1);
  }
}

/** Lets a reader go that waits in open(): it reads an empty file. Harmless when there is none. */
export function releaseFifo(path: string): void {
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  } catch {
    // It was removed already.
  }
}

function writer(fd: number): FifoWriter {
  const socket = new Socket({ fd, readable: false, writable: true });
  let failure: Error | undefined;
  let wake: (() => void) | undefined;
  socket.on('error', (error) => {
    failure = error;
  });
  socket.on('close', () => wake?.());
  return {
    async write(given) {
      if (failure) throw failure;
      await new Promise<void>((done) => {
        wake = done;
        const chunks = joined(given);
        socket.cork();
        chunks.forEach((chunk, i) => {
          socket.write(chunk, i === chunks.length - 1 ? () => done() : undefined);
        });
        socket.uncork();
        if (chunks.length === 0 || socket.destroyed) done();
      });
      wake = undefined;
      if (failure || socket.destroyed) throw failure ?? new Error('The pipe was closed.');
    },
    close: () => socket.destroy(),
  };
}

/** Some sources hand over one slice per row: a system call for each would cost more than the copy. */
function joined(chunks: readonly Uint8Array[]): readonly Uint8Array[] {
  const total = chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return chunks.length > 8 && total / chunks.length < 16_384 ? [Buffer.concat(chunks, total)] : chunks;
}
