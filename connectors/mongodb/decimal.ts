/** Decimal128, from its sixteen bytes to text. */
import { Decimal128 } from 'mongodb';

/** As MongoDB shows it, with the exponent and the zeros it has: `1.50`, `1E+3`, `-0`, `NaN`, `Infinity`. */
export const decimalText = (b: Buffer, at: number): string =>
  new Decimal128(Buffer.from(b.subarray(at, at + 16))).toString();

/** In plain notation, every digit: `1.50`, `1000`; `NaN`, `Infinity`, `-Infinity`. Minus zero is zero. */
export const decimalPlain = (b: Buffer, at: number): string => plain(decimalText(b, at));

/** `-1.5E-7` → `-0.00000015`. */
export function plain(text: string): string {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (!match) return text; // NaN, Infinity
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = whole + fraction;
  const point = whole.length + Number(exponent);
  let unsigned: string;
  if (point <= 0) unsigned = `0.${'0'.repeat(-point)}${digits}`;
  else if (point >= digits.length) unsigned = digits + '0'.repeat(point - digits.length);
  else unsigned = `${digits.slice(0, point)}.${digits.slice(point)}`;
  const trimmed = unsigned.replace(/^0+(?=\d)/, '');
  return /[1-9]/.test(trimmed) ? sign + trimmed : trimmed;
}

/**
 * A double in a column of decimals: the shortest text that reads back as the same double, and all digits of a whole
 * number, so that two different numbers never get one text.
 */
export function doublePlain(x: number): string {
  if (!Number.isFinite(x)) return String(x);
  if (Number.isInteger(x)) return Math.abs(x) < 2 ** 53 ? String(x + 0) : BigInt(x).toString();
  return plain(String(x));
}
