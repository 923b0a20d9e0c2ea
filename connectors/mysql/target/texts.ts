/** Canonical values (connectors/types.ts) to the fields of pg-text, and those to lines. */
import type { PlanColumn } from '../../contract.ts';
import type { LogicalType, Row, Value } from '../../types.ts';

/** A field's text as it is, without escapes; null is NULL. */
export type Field = string | null;
type Encode = (value: Value) => string;

/** The text of a value. A string is always the type's own text, whatever the type. */
function textOf(type: LogicalType): Encode {
  switch (type.kind) {
    case 'bool':
      return (value) => (typeof value === 'string' ? value : value ? 't' : 'f');
    case 'timestamp':
      return (value) => String(value).replace('T', ' ');
    case 'timestamptz':
      return (value) => String(value).replace('T', ' ').replace(/Z$/, '+00');
    default:
      return (value) => {
        if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
        if (value instanceof Uint8Array) return `\\x${hex(value)}`;
        return Array.isArray(value) ? json(value) : String(value);
      };
  }
}

const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');

/** An array whose source knows no JSON of its own: integers keep every digit. */
function json(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(json).join(', ')}]`;
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return JSON.stringify(`\\x${hex(value)}`);
  return JSON.stringify(value);
}

/** The fields of a row, in the order of the columns. */
export function fieldsOf(columns: readonly PlanColumn[]): (row: Row) => Field[] {
  const encoders = columns.map(({ type }) => textOf(type));
  return (row) =>
    encoders.map((encode, c) => {
      const value = row[c];
      return value === null || value === undefined ? null : encode(value);
    });
}

const special = /[\\\n\t]/;
const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\t': '\\t' };

/** A line of pg-text, its end included. */
export function lineOf(fields: readonly Field[]): string {
  let line = '';
  for (const [c, field] of fields.entries()) {
    if (c > 0) line += '\t';
    if (field === null) line += '\\N';
    else line += special.test(field) ? field.replace(/[\\\n\t]/g, (char) => escapes[char] as string) : field;
  }
  return `${line}\n`;
}

const unescapes: Readonly<Record<number, number>> = { 98: 8, 102: 12, 110: 10, 114: 13, 116: 9, 118: 11 };
const backslash = 92;
const tab = 9;
const newline = 10;

/** A stream of pg-text back to rows of fields, cut anywhere. */
export class FieldReader {
  /** Of a row that has not ended yet. */
  #parts: Uint8Array[] = [];

  /** The whole rows that have come in by now. */
  *take(bytes: Uint8Array): Generator<Field[]> {
    let from = 0;
    for (let at = bytes.indexOf(newline); at >= 0; at = bytes.indexOf(newline, from)) {
      const end = bytes.subarray(from, at);
      yield parseLine(this.#parts.length === 0 ? end : Buffer.concat([...this.#parts, end]));
      this.#parts = [];
      from = at + 1;
    }
    // A copy: the bytes taken are given back to their source.
    if (from < bytes.length) this.#parts.push(Uint8Array.from(bytes.subarray(from)));
  }

  get open(): boolean {
    return this.#parts.length > 0;
  }
}

function parseLine(line: Uint8Array): Field[] {
  const fields: Field[] = [];
  let from = 0;
  for (;;) {
    let to = line.indexOf(tab, from);
    if (to < 0) to = line.length;
    fields.push(parseField(line.subarray(from, to)));
    if (to === line.length) return fields;
    from = to + 1;
  }
}

function parseField(bytes: Uint8Array): Field {
  if (bytes.length === 2 && bytes[0] === backslash && bytes[1] === 78) return null;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!bytes.includes(backslash)) return buffer.toString();
  const plain = Buffer.allocUnsafe(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    let byte = bytes[at] as number;
    if (byte === backslash && at + 1 < bytes.length) {
      byte = bytes[++at] as number;
      byte = unescapes[byte] ?? byte;
    }
    plain[length++] = byte;
  }
  return plain.toString('utf8', 0, length);
}
