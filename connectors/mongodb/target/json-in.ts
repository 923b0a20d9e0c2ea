/**
 * JSON text → the same value in BSON, without losing a digit: whole numbers become int or long, others a double when
 * that is shown by the very same digits, else a Decimal128. What a document cannot hold exactly (a number of more than 34
 * digits, one name twice in an object, a name with a NUL, half of a surrogate pair, more than 150 levels) is left to the
 * caller, who keeps the text.
 */
import { bson } from '../bson.ts';
import { setDecimal } from './decimal128.ts';
import type { Out } from './out.ts';

/** The server refuses documents of more levels than some 180, those above this value included. */
const deepest = 150;

class Inexact extends Error {}

/** Writes the value; its BSON type, or undefined, and nothing written, when it has no exact form. */
export function jsonInto(out: Out, text: string): number | undefined {
  const start = out.at;
  try {
    const reader = new Reader(out, text);
    const type = reader.value(0);
    reader.end();
    return type;
  } catch (error) {
    if (!(error instanceof Inexact)) throw error;
    out.at = start;
    return undefined;
  }
}

const quote = 34;
const backslash = 92;

class Reader {
  readonly #out: Out;
  readonly #text: string;
  #at = 0;

  constructor(out: Out, text: string) {
    this.#out = out;
    this.#text = text;
  }

  value(depth: number): number {
    if (depth > deepest) throw new Inexact();
    switch (this.#next()) {
      case 123:
        return this.#object(depth);
      case 91:
        return this.#array(depth);
      case quote:
        this.#out.string(this.#string());
        return bson.string;
      case 116:
        return this.#word('true', bson.bool, 1);
      case 102:
        return this.#word('false', bson.bool, 0);
      case 110:
        return this.#word('null', bson.null);
      default:
        return this.#number();
    }
  }

  end(): void {
    this.#next();
    if (this.#at < this.#text.length) throw new Inexact();
  }

  /** The next character that is no blank; it stays. */
  #next(): number {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return code;
      this.#at++;
    }
  }

  #expect(code: number): void {
    if (this.#next() !== code) throw new Inexact();
    this.#at++;
  }

  #object(depth: number): number {
    const out = this.#out;
    const start = out.open();
    const names: string[] = [];
    let many: Set<string> | undefined;
    this.#at++;
    if (this.#next() === 125) this.#at++;
    else {
      for (;;) {
        if (this.#next() !== quote) throw new Inexact();
        const name = this.#string();
        if (name.includes('\0')) throw new Inexact();
        if (many ? many.has(name) : names.includes(name)) throw new Inexact();
        if (many) many.add(name);
        else if (names.push(name) === 16) many = new Set(names);
        this.#expect(58);
        this.#element(name, depth);
        if (this.#next() !== 44) break;
        this.#at++;
      }
      this.#expect(125);
    }
    out.close(start);
    return bson.object;
  }

  #array(depth: number): number {
    const out = this.#out;
    const start = out.open();
    this.#at++;
    if (this.#next() === 93) this.#at++;
    else {
      for (let i = 0; ; i++) {
        this.#element(String(i), depth);
        if (this.#next() !== 44) break;
        this.#at++;
      }
      this.#expect(93);
    }
    out.close(start);
    return bson.array;
  }

  #element(name: string, depth: number): void {
    const out = this.#out;
    const type = out.at;
    out.byte(0);
    out.name(name);
    out.b[type] = this.value(depth + 1);
  }

  #string(): string {
    const text = this.#text;
    const from = this.#at + 1;
    for (let i = from; ; i++) {
      const code = text.charCodeAt(i);
      if (code === quote) {
        this.#at = i + 1;
        return text.slice(from, i);
      }
      if (code === backslash) return this.#escaped(from, i);
      // NaN: the text ends here.
      if (!(code >= 32)) throw new Inexact();
    }
  }

  #escaped(from: number, first: number): string {
    const text = this.#text;
    let i = first;
    for (; text.charCodeAt(i) !== quote; i++) {
      if (i >= text.length) throw new Inexact();
      if (text.charCodeAt(i) === backslash) i++;
    }
    this.#at = i + 1;
    let value: string;
    try {
      value = JSON.parse(text.slice(from - 1, i + 1)) as string;
    } catch {
      throw new Inexact();
    }
    if (!value.isWellFormed()) throw new Inexact();
    return value;
  }

  #word(word: string, type: number, byte?: number): number {
    if (!this.#text.startsWith(word, this.#at)) throw new Inexact();
    this.#at += word.length;
    if (byte !== undefined) this.#out.byte(byte);
    return type;
  }

  #number(): number {
    const text = this.#text;
    const from = this.#at;
    let i = from;
    let whole = true;
    for (; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if ((code >= 48 && code <= 57) || code === 45 || code === 43) continue;
      if (code !== 46 && code !== 69 && code !== 101) break;
      whole = false;
    }
    this.#at = i;
    const digits = text.slice(from, i);
    if (!jsonNumber.test(digits)) throw new Inexact();
    return numberInto(this.#out, digits, whole);
  }
}

const jsonNumber = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

function numberInto(out: Out, digits: string, whole: boolean): number {
  const number = Number(digits);
  if (whole && !Object.is(number, -0)) {
    if (number === (number | 0)) {
      out.int32(number);
      return bson.int;
    }
    const big = BigInt(digits);
    if (BigInt.asIntN(64, big) === big) {
      out.int64(big);
      return bson.long;
    }
  } else if (isShownAs(number, digits)) {
    out.double(number);
    return bson.double;
  }
  out.room(16);
  if (!setDecimal(out.b, out.at, digits)) throw new Inexact();
  out.at += 16;
  return bson.decimal;
}

/** Has the double these very digits? `5.0` is a double that is whole; `1.10` is not, for its zero would go. */
function isShownAs(number: number, digits: string): boolean {
  if (!Number.isFinite(number)) return false;
  const shown = Object.is(number, -0) ? '-0' : String(number);
  if (shown === digits || `${shown}.0` === digits) return true;
  // With an exponent the digits alone count: 1.5e3 is 1500.
  return /[eE]/.test(digits) && significant(shown) === significant(digits);
}

/** `1.5e3`, `1500` → `15e2`. */
function significant(text: string): string {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (!match) return text;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = (whole + fraction).replace(/^0+/, '');
  const kept = digits.replace(/0+$/, '');
  if (kept === '') return `${sign}0`;
  return `${sign}${kept}e${Number(exponent) - fraction.length + (digits.length - kept.length)}`;
}
