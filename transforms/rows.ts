/** The rows lane towards files: canonical values → the CSV dialect of the columnar lane → part files. */
import type { BadRow, BytesBatch, FileBatch, PlanColumn, RowsBatch } from '../connectors/contract.ts';
import type { Row, Value } from '../connectors/types.ts';
import { typeText } from '../connectors/types.ts';
import { type PartsOptions, type PartsWork, spooledParts } from './columnar.ts';
import { holds, nearest, type Test } from './holds.ts';
import { hiveNull, parquetType } from './projection.ts';

/**
 * As `toParts`. A row with a value that the file's type cannot hold is left out and comes with the first part
 * (`FileBatch.bad`); a column's misfit `null` or `clamp` mends it instead.
 */
export async function* rowsToParts(
  batches: AsyncIterable<RowsBatch>,
  work: PartsWork,
  options: PartsOptions,
): AsyncGenerator<FileBatch> {
  const bad: BadRow[] = [];
  let first = true;
  for await (const part of spooledParts(toCsv(batches, work, bad), work, options)) {
    yield first && bad.length > 0 ? { ...part, bad } : part;
    first = false;
  }
  if (first && bad.length > 0) yield { kind: 'file', path: '', partition: '', rows: 0, bytes: 0, bad };
}

async function* toCsv(batches: AsyncIterable<RowsBatch>, work: PartsWork, bad: BadRow[]): AsyncGenerator<BytesBatch> {
  const tests = work.columns.map((column) => testOf(column, work));
  let ordinal = 0;
  let rows = 0;
  for await (const batch of batches) {
    const lines: string[] = [];
    for (const row of batch.rows) {
      const mended = mend(row, work.columns, tests);
      if ('line' in mended) {
        lines.push(mended.line);
        rows++;
      } else {
        bad.push({ ordinal, row, ...mended });
      }
      ordinal++;
    }
    if (lines.length > 0) yield { kind: 'bytes', bytes: [Buffer.from(lines.join(''))] };
  }
  yield { kind: 'bytes', bytes: [], rows };
}

type Mended = { readonly line: string } | { readonly column: string; readonly reason: string };

function mend(row: Row, columns: readonly PlanColumn[], tests: readonly (Test | undefined)[]): Mended {
  let line = '';
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i] as PlanColumn;
    let value = row[i] ?? null;
    if (value !== null && tests[i]?.(value) === false) {
      const held = column.misfit === 'clamp' ? nearest(value, column.type) : undefined;
      if (column.misfit === 'null') value = null;
      else if (held !== undefined) value = held;
      else return { column: column.name, reason: `a ${typeText(column.type)} that ${parquetType(column)} cannot hold` };
    }
    line += `${i === 0 ? '' : ','}${field(value)}`;
  }
  return { line: `${line}\n` };
}

const between =
  (low: bigint, high: bigint): Test =>
  (value) => {
    const n = BigInt(value as number | bigint | string);
    return n >= low && n <= high;
  };
const bits = (n: bigint) => between(-(2n ** (n - 1n)), 2n ** (n - 1n) - 1n);

/** What the column's type in the file, and its folder's name, can hold. Undefined: everything. */
function testOf(column: PlanColumn, work: PartsWork): Test | undefined {
  const held = work.writeFormat === 'parquet' ? heldBy(column) : undefined;
  if (work.partition?.column !== column.name || work.partition.format === 'int') return held;
  if (work.partition.format === 'datetime') return held ?? ((value) => /^\d{4}-/.test(String(value)));
  return (value) =>
    (held?.(value) ?? true) && value !== '' && value !== hiveNull && encodeURIComponent(String(value)).length <= 200;
}

function heldBy(column: PlanColumn): Test | undefined {
  const type = parquetType(column);
  switch (type) {
    case 'TINYINT':
      return bits(8n);
    case 'SMALLINT':
      return bits(16n);
    case 'INTEGER':
      return bits(32n);
    case 'BIGINT':
      return bits(64n);
    case 'UBIGINT':
      return between(0n, 2n ** 64n - 1n);
    default:
      // Text has no limit here: its type says nothing of what it was before it was shaped.
      return column.shape === 'native' && column.type.kind !== 'text'
        ? holds(column.type, { endOfDay: false })
        : undefined;
  }
}

/** NULL is the unquoted empty field; every text is quoted. */
function field(value: Value): string {
  if (value === null) return '';
  switch (typeof value) {
    case 'string':
      return `"${value.replaceAll('"', '""')}"`;
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value);
    case 'object':
      return value instanceof Uint8Array
        ? `"${Buffer.from(value).toString('hex')}"`
        : `"${jsonText(value).replaceAll('"', '""')}"`;
    default:
      return String(value);
  }
}

/** Numbers without loss; bytes as in the bytes columns; NaN and infinities, which JSON has not, as strings. */
function jsonText(value: Value): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : `"${value}"`;
  if (value instanceof Uint8Array) return `"\\\\x${Buffer.from(value).toString('hex')}"`;
  return `[${value.map(jsonText).join(',')}]`;
}
