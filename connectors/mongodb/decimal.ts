/**
 * Decimal128, from its sixteen bytes to text. They hold a sign, an exponent of fourteen bits (6176 more than it is) and an
 * integer of up to 34 digits (IEEE 754-2008, binary integer decimal; BSON's own text form: the driver specification
 * "BSON Decimal128").
 */
import { Decimal128 } from 'mongodb';
import { int32 } from './bson.ts';

const bias = 6176;
const beyond = 10n ** 34n;

/** As MongoDB shows it, with the exponent and the zeros it has: `1.50`, `1E+3`, `-0`, `NaN`, `Infinity`. */
export function decimalText(b: Buffer, at: number): string {
  const digits = digitsOf(b, at);
  if (digits === undefined) return new Decimal128(Buffer.from(b.subarray(at, at + 16))).toString();
  const sign = signOf(b, at);
  const exponent = exponentOf(b, at);
  const scientific = digits.length - 1 + exponent;
  if (exponent > 0 || scientific < -6) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : '';
    return `${sign}${digits[0]}${fraction}E${scientific < 0 ? '' : '+'}${scientific}`;
  }
  return sign + pointed(digits, digits.length + exponent);
}

/** In plain notation, every digit: `1.50`, `1000`; `NaN`, `Infinity`, `-Infinity`. Minus zero is zero. */
export function decimalPlain(b: Buffer, at: number): string {
  const digits = digitsOf(b, at);
  if (digits === undefined) return plain(decimalText(b, at));
  const exponent = exponentOf(b, at);
  if (digits === '0') return exponent < 0 ? `0.${'0'.repeat(-exponent)}` : '0';
  return signOf(b, at) + pointed(digits, digits.length + exponent);
}

/** The integer, in decimal; undefined for what is no number, and for what no writer writes: more than 34 digits. */
function digitsOf(b: Buffer, at: number): string | undefined {
  const top = b[at + 15] as number;
  if ((top & 0x60) === 0x60) return undefined;
  const low = int32(b, at) >>> 0;
  const second = int32(b, at + 4) >>> 0;
  const third = int32(b, at + 8) >>> 0;
  const fourth = int32(b, at + 12) & 0x1ffff;
  if ((third | fourth) === 0 && second < 0x200000) return String(second * 0x1_0000_0000 + low);
  const high = (BigInt(fourth) << 32n) | BigInt(third);
  const whole = (high << 64n) | (BigInt(second) << 32n) | BigInt(low);
  return whole < beyond ? whole.toString() : undefined;
}

const signOf = (b: Buffer, at: number): string => ((b[at + 15] as number) >= 0x80 ? '-' : '');

const exponentOf = (b: Buffer, at: number): number => ((int32(b, at + 12) >>> 17) & 0x3fff) - bias;

/** The digits with their point behind the first `point` of them, zeros where it lies outside. */
function pointed(digits: string, point: number): string {
  if (point <= 0) return `0.${'0'.repeat(-point)}${digits}`;
  if (point >= digits.length) return digits + '0'.repeat(point - digits.length);
  return `${digits.slice(0, point)}.${digits.slice(point)}`;
}

/** `-1.5E-7` → `-0.00000015`. */
export function plain(text: string): string {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (!match) return text; // NaN, Infinity
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = whole + fraction;
  const point = whole.length + Number(exponent);
  const trimmed = pointed(digits, point).replace(/^0+(?=\d)/, '');
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
