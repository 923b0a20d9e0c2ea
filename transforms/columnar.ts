/**
 * The columnar lane: a source's CSV bytes → DuckDB → finished part files in the spool. The bytes never become rows in
 * JavaScript. CSV dialect: no header, comma, quote and escape `"`, lines end in \n, NULL is the unquoted empty field
 * (the empty text is `""`), bytes are hexadecimal digits, one field per column of `work.columns`, constants included.
 *
 * Fast path: the bytes go through a named pipe while DuckDB reads them with all threads in small buffers. What cannot be
 * read so (a row longer than a quarter of a MB, no named pipes) is read again from a spooled file whose longest row is
 * known, by one thread, in an instance of its own: memory then follows the row's size, not the chunk's.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { type BytesBatch, type FileBatch, tableText, type Work } from '../connectors/contract.ts';
import { GodwitError } from '../errors.ts';
import { type DuckDb, openDuckDb } from './duckdb.ts';
import { makeFifo, openFifo, releaseFifo } from './fifo.ts';
import { type FileFormat, lineOf, type Projected, partitionOf, projectionOf, quotedName } from './projection.ts';
import { countRows, spoolCsv, spoolError, spoolFolder } from './spool.ts';

export type PartsWork = Pick<Work, 'name' | 'columns' | 'partition' | 'writeFormat'>;

export type PartsOptions = {
  readonly spool: string;
  readonly duckdb: DuckDb;
  readonly signal: AbortSignal;
  /** Default: each column as it is. Steps of a mapping compile to another one. */
  readonly projection?: readonly Projected[];
  /** Bytes of CSV so far. */
  readonly progress?: (bytes: number) => void;
};

const fastLine = 256 * 1024;
const fastBuffer = 2 * 1024 * 1024;
/** Below this a pipe costs more than it saves. */
const smallStream = 1024 * 1024;

/**
 * Part files of one chunk. `read` is called again when the fast path cannot take the data. The files live until the
 * consumer asks for the next one; leaving the loop, an abort or an error leaves nothing in the spool. A chunk without
 * rows gives one empty part, or none when it is partitioned. Throws VALUE_REFUSED (with the column, never the value),
 * LOCAL_DISK_FULL, BOOKS_UNBALANCED, and whatever the source throws.
 */
export async function* toParts(
  read: () => AsyncIterable<BytesBatch>,
  work: PartsWork,
  options: PartsOptions,
): AsyncGenerator<FileBatch> {
  const folder = await spoolFolder(options.spool);
  try {
    const statement = statementOf(work, options.projection);
    yield* (await throughPipe(read, statement, folder, options)) ??
      (await throughFile(read(), statement, folder, options));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** From a file that is spooled anyway (the rows lane). */
export async function* spooledParts(
  csv: AsyncIterable<BytesBatch>,
  work: PartsWork,
  options: PartsOptions,
): AsyncGenerator<FileBatch> {
  const folder = await spoolFolder(options.spool);
  try {
    yield* await throughFile(csv, statementOf(work, options.projection), folder, options);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

// ── The statement ───────────────────────────────────────────────────────────────────────────────────────────────────

type Input = { readonly path: string; readonly line: number; readonly buffer: number; readonly parallel: boolean };
type Statement = {
  readonly format: FileFormat;
  readonly partitioned: boolean;
  readonly table: string;
  /** Names by input column, for refusals. */
  readonly columns: readonly string[];
  readonly sql: (input: Input, out: string, only?: readonly string[]) => string;
  /** Which folders there are. */
  readonly folders: (input: Input) => string;
};

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

function statementOf(work: PartsWork, given: readonly Projected[] | undefined): Statement {
  const format = work.writeFormat as FileFormat;
  const { folders, moved } = partitionOf(work);
  const projected = (given ?? projectionOf(work.columns, format)).filter(({ name }) => name !== moved);
  const select = (columns: readonly Projected[]) =>
    columns.map(({ name, expression }) => `${expression} AS ${quotedName(name)}`).join(', ');
  const body = format === 'ndjson' ? `${lineOf(projected, work.columns)} AS "line"` : select(projected);
  const list = folders.length > 0 ? `${body}, ${select(folders)}` : body;
  const input = `{${work.columns.map((_, i) => `c${i}: 'VARCHAR'`).join(', ')}}`;
  const names = folders.map(({ name }) => quotedName(name)).join(', ');
  const where = folders.length > 0 ? `PARTITION_BY (${names})` : "FILE_SIZE_BYTES '512MB'";
  const from = ({ path, line, buffer, parallel }: Input) =>
    `FROM read_csv(${literal(path)}, columns = ${input}, auto_detect = false, header = false, ` +
    `delim = ',', quote = '"', escape = '"', nullstr = '', allow_quoted_nulls = false, strict_mode = true, ` +
    `new_line = '\\n', encoding = 'utf-8', parallel = ${parallel}, max_line_size = ${line}, buffer_size = ${buffer})`;
  const some = (only: readonly string[]) => `concat_ws('/', ${names}) IN (${only.map(literal).join(', ')})`;
  return {
    format,
    partitioned: folders.length > 0,
    table: tableText(work.name),
    columns: work.columns.map(({ name }) => name),
    sql: (of, out, only) =>
      `COPY (${only ? 'SELECT * FROM (' : ''}SELECT ${list} ${from(of)}${only ? `) WHERE ${some(only)}` : ''}) ` +
      `TO ${literal(out)} (${formatOptions[format]}${format === 'parquet' && of.line <= fastLine ? smallDictionary : ''}, ` +
      `${where}, FILENAME_PATTERN 'part-{i}', OVERWRITE_OR_IGNORE)`,
    folders: (of) =>
      `SELECT DISTINCT concat_ws('/', ${names}) AS folder FROM (SELECT ${select(folders)} ${from(of)}) ORDER BY 1`,
  };
}

/** Gives up early on texts that are all different. Not for long rows: it would hold one more copy of them. */
const smallDictionary = ', STRING_DICTIONARY_PAGE_SIZE_LIMIT 65536';

/**
 * Level 2 and row groups of this size make files 3 % smaller than DuckDB's own settings (level 3, four times the rows) do of
 * the same types, for a fifth less work; level 1 saves another twentieth of it and costs 4 % more bytes.
 */
const formatOptions: Readonly<Record<FileFormat, string>> = {
  parquet:
    'FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 2, ROW_GROUP_SIZE 30720, ROW_GROUP_SIZE_BYTES 33554432, RETURN_STATS',
  csv: "FORMAT csv, HEADER true, FILE_EXTENSION 'csv', RETURN_FILES",
  // A line is finished text: written raw, by a writer told of no quote and of a delimiter that is nowhere needed.
  ndjson: "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER e'\\x01', FILE_EXTENSION 'ndjson', RETURN_FILES",
};

// ── Running it ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The CSV reader gave up on the bytes' structure: to be read again in the thorough way. */
class Unreadable extends Error {}

/** Undefined when the data is not for this path. */
async function throughPipe(
  read: () => AsyncIterable<BytesBatch>,
  statement: Statement,
  folder: string,
  options: PartsOptions,
): Promise<FileBatch[] | undefined> {
  const source = read()[Symbol.asyncIterator]();
  let sourceOver = false;
  try {
    const head: BytesBatch[] = [];
    for (let bytes = 0; bytes < smallStream; ) {
      const { done, value } = await source.next();
      sourceOver = done === true;
      if (done) break;
      head.push(value);
      bytes += sizeOf(value);
    }
    if (sourceOver) return await throughFile(head, statement, folder, options);
    const path = join(folder, 'in.csv');
    if (!(await makeFifo(path))) return undefined;
    return await pipe(head, source, { path, statement, folder, options });
  } catch (error) {
    if (!(error instanceof Unreadable) && !tooManyFolders(statement, error)) throw error;
    await rm(join(folder, 'out'), { recursive: true, force: true });
    return undefined;
  } finally {
    if (!sourceOver) await source.return?.();
  }
}

type Pipe = {
  readonly path: string;
  readonly statement: Statement;
  readonly folder: string;
  readonly options: PartsOptions;
};

async function pipe(
  head: readonly BytesBatch[],
  source: AsyncIterator<BytesBatch>,
  { path, statement, folder, options }: Pipe,
): Promise<FileBatch[]> {
  await using connection = await connected(options.duckdb);
  const input = { path, line: fastLine, buffer: fastBuffer, parallel: true };
  let over = false;
  const copying = copy(connection.duckdb, statement, input, join(folder, 'out')).finally(() => {
    over = true;
  });
  copying.catch(() => {});
  const interrupt = () => connection.duckdb.interrupt();
  options.signal.addEventListener('abort', interrupt);
  let rows: number | undefined;
  let failure: unknown;
  try {
    rows = await feed(head, source, { path, copying, stopped: () => over || options.signal.aborted, options });
  } catch (error) {
    failure = error;
    interrupt();
    releaseFifo(path);
  }
  // DuckDB's own failure is the cause of a broken pipe; a failing source or an abort is the cause of DuckDB's.
  const copied = await settled(copying);
  options.signal.removeEventListener('abort', interrupt);
  options.signal.throwIfAborted();
  if (failure !== undefined && !(failure instanceof BrokenPipe)) throw failure;
  if ('error' in copied) throw copied.error;
  if (failure !== undefined) throw failure;
  // A row longer than `fastLine` is an error, but not when it is the very last one: DuckDB then ends without a word.
  if (rows !== undefined && rowsOf(copied.value) < rows) throw new Unreadable();
  return balanced(copied.value, rows, statement);
}

class BrokenPipe extends Error {}

type Feed = {
  readonly path: string;
  readonly copying: Promise<unknown>;
  readonly stopped: () => boolean;
  readonly options: PartsOptions;
};

/** Pumps the stream into the pipe, reading one batch ahead. The rows which the source says it sent. */
async function feed(
  head: readonly BytesBatch[],
  source: AsyncIterator<BytesBatch>,
  { path, copying, stopped, options }: Feed,
): Promise<number | undefined> {
  const writer = await openFifo(path, stopped);
  if (!writer) throw new BrokenPipe();
  // Not Promise.race: raced against one long promise, every batch would stay in memory until that one settles.
  let wake: (() => void) | undefined;
  const end = () => wake?.();
  copying.then(end, end);
  let bytes = 0;
  let rows: number | undefined;
  try {
    let queue = head;
    for (;;) {
      const next = source.next();
      next.catch(() => {});
      for (const batch of queue) {
        options.signal.throwIfAborted();
        await writer.write(batch.bytes).catch((cause: unknown) => {
          throw new BrokenPipe('', { cause });
        });
        bytes += sizeOf(batch);
        rows = batch.rows ?? rows;
        batch.release?.();
        options.progress?.(bytes);
      }
      const result = await new Promise<IteratorResult<BytesBatch> | undefined>((resolve, reject) => {
        wake = () => resolve(undefined);
        next.then(resolve, reject);
        if (stopped()) wake();
      });
      if (!result) throw new BrokenPipe();
      if (result.done) return rows;
      queue = [result.value];
    }
  } finally {
    writer.close();
  }
}

async function throughFile(
  batches: AsyncIterable<BytesBatch> | readonly BytesBatch[],
  statement: Statement,
  folder: string,
  options: PartsOptions,
): Promise<FileBatch[]> {
  const path = join(folder, 'spooled.csv');
  const csv = await spoolCsv(path, watched(batches, options));
  const line = Math.max(csv.longestRow + 1, 4096);
  const wide = line > fastLine;
  // A long row passes through the reader's buffer, the vector, the page and its compressed form.
  await using own = wide
    ? await openDuckDb({
        ...options.duckdb.options,
        threads: 1,
        memoryBytes: Math.max(line * 7, options.duckdb.options.memoryBytes),
      })
    : undefined;
  await using connection = await connected(own ?? options.duckdb);
  const input = { path, line: Math.max(line, fastLine), buffer: Math.max(line + 4096, fastBuffer), parallel: false };
  const interrupt = () => connection.duckdb.interrupt();
  options.signal.addEventListener('abort', interrupt);
  try {
    const parts = await copyByFolders(connection.duckdb, statement, input, folder);
    return balanced(parts, csv.rows, statement);
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof Unreadable)) throw error;
    throw new GodwitError('INTERNAL', `The rows of ${statement.table} could not be read as CSV.`, {
      table: statement.table,
    });
  } finally {
    options.signal.removeEventListener('abort', interrupt);
    await rm(path, { force: true });
  }
}

async function* watched(batches: AsyncIterable<BytesBatch> | readonly BytesBatch[], options: PartsOptions) {
  let bytes = 0;
  for await (const batch of batches) {
    options.signal.throwIfAborted();
    bytes += sizeOf(batch);
    options.progress?.(bytes);
    yield batch;
  }
}

const sizeOf = (batch: BytesBatch): number => batch.bytes.reduce((sum, bytes) => sum + bytes.byteLength, 0);

const settled = <T>(promise: Promise<T>) =>
  promise.then(
    (value) => ({ value }) as const,
    (error: unknown) => ({ error }) as const,
  );

async function connected(duckdb: DuckDb) {
  const connection = await duckdb.connect();
  return {
    duckdb: connection,
    async [Symbol.asyncDispose]() {
      connection.closeSync();
    },
  };
}

// ── Its result ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** DuckDB has buffers for each folder that it writes to: of more than its memory takes some are written at a time. */
async function copyByFolders(
  connection: DuckDBConnection,
  statement: Statement,
  input: Input,
  folder: string,
): Promise<FileBatch[]> {
  const parts: FileBatch[] = [];
  const groups: (readonly string[] | undefined)[] = [undefined];
  for (let n = 0; groups.length > 0; n++) {
    const only = groups.shift();
    const out = join(folder, `out-${n}`);
    try {
      parts.push(...(await copy(connection, statement, input, out, only)));
    } catch (error) {
      if (!tooManyFolders(statement, error) || only?.length === 1) throw error;
      await rm(out, { recursive: true, force: true });
      const all = only ?? (await foldersOf(connection, statement, input));
      const size = only ? Math.ceil(all.length / 2) : foldersAtOnce;
      for (let at = 0; at < all.length; at += size) groups.push(all.slice(at, at + size));
    }
  }
  return parts;
}

const foldersAtOnce = 64;
const tooManyFolders = ({ partitioned }: Statement, error: unknown): boolean =>
  partitioned && error instanceof GodwitError && error.code === 'ROW_TOO_LARGE';

async function foldersOf(connection: DuckDBConnection, statement: Statement, input: Input): Promise<string[]> {
  try {
    return (await connection.runAndReadAll(statement.folders(input))).getRows().map(([name]) => String(name));
  } catch (error) {
    throw translate(error, statement);
  }
}

async function copy(
  connection: DuckDBConnection,
  statement: Statement,
  input: Input,
  out: string,
  only?: readonly string[],
): Promise<FileBatch[]> {
  await mkdir(out, { recursive: true });
  try {
    const result = await connection.runAndReadAll(statement.sql(input, out, only));
    if (statement.format === 'parquet') {
      // filename, count, file_size_bytes, …
      return result.getRows().map((row) => part(out, String(row[0]), Number(row[1]), Number(row[2])));
    }
    const total = Number(result.getRows()[0]?.[0] ?? 0);
    const files = (await readdir(out, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const parts: FileBatch[] = [];
    for (const { parentPath, name } of files) {
      const path = join(parentPath, name);
      // Several files came of one statement, which counts them together.
      const rows = files.length === 1 ? total : await countRecords(path, statement.format);
      parts.push(part(out, path, rows, (await stat(path)).size));
    }
    return parts;
  } catch (error) {
    throw translate(error, statement);
  }
}

const countRecords = async (path: string, format: FileFormat): Promise<number> =>
  format === 'csv' ? (await countRows(path, 'csv')) - 1 : await countRows(path, 'ndjson');

const part = (out: string, path: string, rows: number, bytes: number): FileBatch => ({
  kind: 'file',
  path,
  partition: relative(out, dirname(path)).split(sep).join('/'),
  rows,
  bytes,
});

const rowsOf = (parts: readonly FileBatch[]): number => parts.reduce((sum, { rows }) => sum + rows, 0);

function balanced(parts: FileBatch[], rows: number | undefined, statement: Statement): FileBatch[] {
  const written = rowsOf(parts);
  if (rows === undefined || written !== rows) {
    const sent = rows === undefined ? 'an unknown number of' : rows;
    throw new GodwitError(
      'BOOKS_UNBALANCED',
      `The source sent ${sent} rows of ${statement.table}, the files have ${written}.`,
      {
        table: statement.table,
      },
    );
  }
  return parts;
}

/** By what DuckDB says of the kind of failure and the column. Its text quotes values and goes no further. */
function translate(error: unknown, { table, columns }: Statement): Error {
  const text = error instanceof Error ? error.message : '';
  const named = /(?:godwit-misfit|source column) c(\d+)\b/.exec(text)?.[1];
  const native = /^[A-Z][A-Za-z ]* Error/.exec(text)?.[0];
  if (/^(?:Conversion Error|Invalid Input Error: (?!CSV Error))/.test(text) || named !== undefined) {
    const column = named === undefined ? undefined : columns[Number(named)];
    return new GodwitError(
      'VALUE_REFUSED',
      `${column === undefined ? 'A value' : `A value of column "${column}"`} of ${table} does not fit the file's type; nothing of this chunk was written.`,
      { table, column, native },
    );
  }
  if (/No space left|File too large|Disk quota|max_temp_directory_size|Could not write|Failed to write/i.test(text)) {
    return spoolError({ code: 'ENOSPC' }) as Error;
  }
  if (/^Out of Memory/.test(text)) {
    return new GodwitError('ROW_TOO_LARGE', `Rows of ${table} need more memory than GODWIT_DUCKDB_MB allows.`, {
      table,
      native,
    });
  }
  if (/CSV|max_line_size|maximum line size|parallel/i.test(text)) return new Unreadable();
  return new GodwitError(
    'INTERNAL',
    `DuckDB failed while it wrote the files of ${table} (${native ?? 'unknown error'}).`,
    {
      table,
      native,
    },
  );
}
