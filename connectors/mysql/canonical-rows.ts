/** From the packets' texts to canonical values (connectors/types.ts). */
import { isUtf8 } from 'node:buffer';
import { GodwitError } from '../../errors.ts';
import type { LogicalType, Row, Value } from '../types.ts';
import { longLength } from './lengths.ts';
import type { TakeRow } from './result.ts';
import type { Selected } from './select.ts';
import { float32Text } from './text-rows.ts';

type Parse = (from: Buffer, at: number, to: number) => Value;

export type CanonicalRows = {
  readonly row: TakeRow;
  /** Rows so far; the taker empties it with `take`. */
  take(): Row[];
  count(): number;
  bytes(): number;
};

export function canonicalRows(columns: readonly Selected[], names: readonly string[]): CanonicalRows {
  const parsers = columns.map((column, i) => parserOf(column, names[i] ?? ''));
  let rows: Row[] = [];
  let bytes = 0;
  const row: TakeRow = (from, at, end) => {
    const values = new Array<Value>(parsers.length);
    let p = at;
    for (let c = 0; c < parsers.length; c++) {
      let length = from[p] as number;
      if (length === 0xfb) {
        values[c] = null;
        p++;
        continue;
      }
      if (length < 0xfb) {
        p++;
      } else {
        length = longLength(from, p);
        p += from[p] === 0xfc ? 3 : from[p] === 0xfd ? 4 : 9;
      }
      values[c] = (parsers[c] as Parse)(from, p, p + length);
      p += length;
    }
    if (p !== end) throw new GodwitError('CONNECTION_FAILED', 'MySQL sent a row of another length than it says.');
    rows.push(values);
    bytes += end - at;
  };
  return {
    row,
    take() {
      const taken = rows;
      rows = [];
      bytes = 0;
      return taken;
    },
    count: () => rows.length,
    bytes: () => bytes,
  };
}

const ascii: (from: Buffer, at: number, to: number) => string = (from, at, to) => from.toString('latin1', at, to);
const number: Parse = (from, at, to) => Number(ascii(from, at, to));
const bigint: Parse = (from, at, to) => BigInt(ascii(from, at, to));

function parserOf({ type, spelling }: Selected, column: string): Parse {
  switch (spelling) {
    case 'bytes':
      return type.kind === 'bytes'
        ? (from, at, to) => Buffer.from(from.subarray(at, to))
        : (from, at, to) => `\\x${from.toString('hex', at, to)}`;
    case 'float':
      return type.kind === 'float32'
        ? (from, at, to) => Number(float32Text(ascii(from, at, to)))
        : (from, at, to) => float32Text(ascii(from, at, to));
    case 'fraction':
    case 'zonedFraction':
      if (type.kind === 'text') {
        const zone = spelling === 'zonedFraction' ? '+00' : '';
        return (from, at, to) => withoutZeros(ascii(from, at, to)) + zone;
      }
      return valueParser(type, column);
    case 'plain':
    case 'text':
    case 'zoned':
      return valueParser(type, column);
  }
}

function valueParser(type: LogicalType, column: string): Parse {
  switch (type.kind) {
    case 'bool':
      return (from, at) => from[at] === 116;
    case 'int8':
    case 'int16':
    case 'int32':
    case 'float32':
    case 'float64':
      return number;
    case 'int64':
    case 'uint64':
      return bigint;
    case 'decimal':
    case 'uuid':
    case 'date':
      return ascii;
    case 'time':
      return (from, at, to) => withoutZeros(ascii(from, at, to));
    case 'timestamp':
      return (from, at, to) => moment(ascii(from, at, to));
    case 'timestamptz':
      return (from, at, to) => `${moment(ascii(from, at, to))}Z`;
    default:
      return textParser(column);
  }
}

/** Bytes that are no UTF-8 (put into a column past the server's own check) are an error, never a replacement character. */
const textParser =
  (column: string): Parse =>
  (from, at, to) => {
    const text = from.toString('utf8', at, to);
    if (text.includes('\ufffd') && !isUtf8(from.subarray(at, to))) {
      throw new GodwitError('VALUE_REFUSED', `A text of column ${column} is not in its character set.`, { column });
    }
    return text;
  };

const moment = (text: string): string => withoutZeros(`${text.slice(0, 10)}T${text.slice(11)}`);

const withoutZeros = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);
