/**
 * Decimal128 from plain text, in the binary form of BSON: a sign, an exponent (6176 more than it is) and a whole number of
 * at most 34 digits. The zeros behind the point are kept: `1.50` is not `1.5` there.
 */
import { setInt32 } from './out.ts';

const mostDigits = 34;
const bias = 6176;
const highestExponent = 6111;

const zero = 48;
const nine = 57;

/** Writes 16 bytes, which must be there. False, and nothing of use written, when the number has too many digits. */
export function setDecimal(b: Buffer, at: number, text: string): boolean {
  let i = 0;
  const negative = text.charCodeAt(0) === 45;
  if (negative) i = 1;
  const lead = text.charCodeAt(i);
  if (lead > nine) return setSpecial(b, at, text);

  let digits = 0; // significant ones
  let small = 0; // their value while a double holds it
  let fraction = 0;
  let point = false;
  const from = i;
  for (; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 46) {
      point = true;
      continue;
    }
    if (code < zero || code > nine) return setScientific(b, at, text);
    if (point) fraction++;
    if (digits > 0 || code !== zero) {
      digits++;
      if (digits <= 15) small = small * 10 + (code - zero);
    }
  }
  if (digits <= 15 && fraction <= bias) {
    setInt32(b, at, small | 0);
    setInt32(b, at + 4, Math.floor(small / 2 ** 32));
    setInt32(b, at + 8, 0);
    setInt32(b, at + 12, ((bias - fraction) << 17) | (negative ? 1 << 31 : 0));
    return true;
  }
  return setBig(b, at, { negative, digits: text.slice(from).replace('.', ''), exponent: -fraction });
}

type Parts = { readonly negative: boolean; readonly digits: string; readonly exponent: number };

/** Zeros at the end make room where there are too many digits, or too small an exponent. */
function setBig(b: Buffer, at: number, { negative, digits: all, exponent: given }: Parts): boolean {
  let digits = all.replace(/^0+/, '') || '0';
  let exponent = given;
  while ((digits.length > mostDigits || exponent < -bias) && digits.endsWith('0') && digits.length > 1) {
    digits = digits.slice(0, -1);
    exponent++;
  }
  if (digits === '0') exponent = Math.min(Math.max(exponent, -bias), highestExponent);
  while (exponent > highestExponent && digits.length < mostDigits) {
    digits += '0';
    exponent--;
  }
  if (digits.length > mostDigits || exponent < -bias || exponent > highestExponent) return false;
  const value = BigInt(digits);
  b.writeBigUInt64LE(value & 0xffff_ffff_ffff_ffffn, at);
  const sign = negative ? 1n << 63n : 0n;
  b.writeBigUInt64LE((value >> 64n) | (BigInt(exponent + bias) << 49n) | sign, at + 8);
  return true;
}

/** `1e-7`, as JSON has it. */
function setScientific(b: Buffer, at: number, text: string): boolean {
  const match = /^(-?)(\d+)(?:\.(\d+))?[eE]([+-]?\d{1,9})$/.exec(text);
  if (!match) return false;
  const [, sign, whole = '', fraction = '', exponent] = match;
  return setBig(b, at, {
    negative: sign === '-',
    digits: whole + fraction,
    exponent: Number(exponent) - fraction.length,
  });
}

function setSpecial(b: Buffer, at: number, text: string): boolean {
  const high =
    text === 'NaN' ? 0x7c00_0000 : text === 'Infinity' ? 0x7800_0000 : text === '-Infinity' ? 0xf800_0000 : 0;
  if (high === 0) return false;
  b.fill(0, at, at + 16);
  setInt32(b, at + 12, high | 0);
  return true;
}
