/** Canonical values (connectors/types.ts) to COPY's text format. */
import type { PlanColumn } from '../../contract.ts';
import type { LogicalType, Row, Value } from '../../types.ts';

type Encode = (value: Value) => string;

/** The text of a value as PostgreSQL reads it. A string is always the type's own text, whatever the type. */
function textOf(type: LogicalType, native: string): Encode {
  switch (type.kind) {
    case 'bool':
      return (value) => (typeof value === 'string' ? value : value ? 't' : 'f');
    case 'float32':
    case 'float64':
      return (value) => (Object.is(value, -0) ? '-0' : String(value));
    case 'bytes':
      return (value) => (value instanceof Uint8Array ? `\\x${hex(value)}` : String(value));
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      return (value) => calendar(String(value));
    case 'array': {
      const element = textOf(innermost(type), '');
      const delimiter = native.startsWith('box[') ? ';' : ',';
      return (value) =>
        Array.isArray(value) ? arrayText(value as readonly Value[], element, delimiter) : String(value);
    }
    default:
      return (value) => (value instanceof Uint8Array ? `\\x${hex(value)}` : String(value));
  }
}

const innermost = (type: LogicalType): LogicalType => (type.kind === 'array' ? innermost(type.of) : type);
const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');

/** ISO 8601 with an expanded, astronomical year → PostgreSQL's year, `BC` behind. Others are understood as they are. */
function calendar(text: string): string {
  const first = text.charCodeAt(0);
  if (first !== 43 && first !== 45) return text;
  const match = /^([+-]\d+)(-\d\d-\d\d)(?:T([\d:.]+)(Z)?)?$/.exec(text);
  if (!match) return text; // -infinity
  const year = Number(match[1]);
  const time = match[3] === undefined ? '' : ` ${match[3]}${match[4] ? '+00' : ''}`;
  return `${String(year > 0 ? year : 1 - year).padStart(4, '0')}${match[2]}${time}${year > 0 ? '' : ' BC'}`;
}

function arrayText(values: readonly Value[], element: Encode, delimiter: string): string {
  const parts = values.map((value) => {
    if (value === null) return 'NULL';
    if (Array.isArray(value)) return arrayText(value as readonly Value[], element, delimiter);
    return `"${element(value).replace(/["\\]/g, '\\$&')}"`;
  });
  return `{${parts.join(delimiter)}}`;
}

const special = /[\\\n\r\t]/;
const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const escaped = (text: string): string =>
  special.test(text) ? text.replace(/[\\\n\r\t]/g, (char) => escapes[char] as string) : text;

/** Types whose text never needs an escape. */
const safe = new Set(['int8', 'int16', 'int32', 'int64', 'uint64', 'decimal', 'uuid']);

/** Rows from `from` (inclusive) to `to` (exclusive) as COPY text. */
export function copyText(columns: readonly PlanColumn[]): (rows: readonly Row[], from: number, to: number) => Buffer {
  const encoders = columns.map(({ type, native }): Encode => {
    if (safe.has(type.kind)) return (value) => (typeof value === 'string' ? escaped(value) : String(value));
    const text = textOf(type, native);
    return (value) => escaped(text(value));
  });
  return (rows, from, to) => {
    const lines: string[] = [];
    for (let r = from; r < to; r++) {
      const row = rows[r] as Row;
      let line = '';
      for (let c = 0; c < encoders.length; c++) {
        const value = row[c];
        if (c > 0) line += '\t';
        line += value === null || value === undefined ? '\\N' : (encoders[c] as Encode)(value);
      }
      lines.push(line);
    }
    return Buffer.from(`${lines.join('\n')}\n`);
  };
}
