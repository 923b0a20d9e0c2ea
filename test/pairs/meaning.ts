/**
 * What a value says, whatever system holds it. The tests of pairs read both sides with the systems' own drivers and
 * compare meanings; nothing of Godwit's own reading or of its type tables is used here.
 */

export type Meaning =
  | null
  | { readonly is: 'bool'; readonly value: boolean }
  /** Plain decimal notation without superfluous zeros, or `NaN`, `Infinity`, `-Infinity`. */
  | { readonly is: 'number'; readonly value: string }
  /** `single`: of 32 bits. */
  | { readonly is: 'float'; readonly value: number; readonly single?: boolean }
  | { readonly is: 'text' | 'uuid'; readonly value: string }
  /** Hexadecimal. */
  | { readonly is: 'bytes'; readonly value: string }
  /** ISO with a blank, no zeros at the end of a fraction; an instant in UTC without its zone. */
  | { readonly is: 'date' | 'time' | 'local' | 'instant'; readonly value: string }
  /** `bounds`: it says of itself that it does not begin at 1. */
  | { readonly is: 'list'; readonly value: readonly Meaning[]; readonly bounds?: true }
  | { readonly is: 'document'; readonly value: ReadonlyMap<string, Meaning> }
  /** JSON as a value of its own: its null is not the database's. `written`: its text. */
  | { readonly is: 'json'; readonly value: Meaning; readonly written?: string };

type Some = Exclude<Meaning, null>;
export type Kind = Some['is'];

export const text = (value: string): Meaning => ({ is: 'text', value });
export const number = (value: string): Meaning => ({ is: 'number', value: plainNumber(value) });
export const float = (value: number, single = false): Meaning => ({ is: 'float', value, single });
export const json = (written: string): Meaning => ({ is: 'json', value: parseJson(written), written });
export const bytes = (value: Uint8Array): Meaning => ({ is: 'bytes', value: Buffer.from(value).toString('hex') });
export const moment = (is: 'date' | 'time' | 'local' | 'instant', value: string): Meaning => ({
  is,
  value: plainTime(value),
});
export const document = (entries: Iterable<readonly [string, Meaning]>): Meaning => ({
  is: 'document',
  value: new Map(entries),
});

/** `1.50e3` → `1500`, `-0.0` → `0`; what is no number stays as it is. */
export function plainNumber(written: string): string {
  const parts = /^([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?$/.exec(written.trim());
  if (!parts || `${parts[2]}${parts[3]}` === '') return written;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = parts;
  const digits = whole + fraction;
  const point = whole.length + Number(exponent);
  if (Math.abs(point) > 20_000) return written;
  const padded = digits.padStart(digits.length + Math.max(0, 1 - point), '0');
  const at = point + (padded.length - digits.length);
  const filled = padded.padEnd(at, '0');
  const left = filled.slice(0, at).replace(/^0+(?=\d)/, '');
  const right = filled.slice(at).replace(/0+$/, '');
  const value = right ? `${left}.${right}` : left;
  return sign === '-' && /[1-9]/.test(value) ? `-${value}` : value;
}

/** `2024-01-01T00:00:00.500Z` → `2024-01-01 00:00:00.5`; years before 1 and past 9999 by their astronomical number. */
export function plainTime(written: string): string {
  const said = written
    .trim()
    .replace(/(Z|\+00(:00)?)(?= BC$|$)/, '')
    .replace(/(:\d\d)\.(\d*?)0+(?=\D|$)/, (_, seconds: string, digits: string) => seconds + (digits && `.${digits}`));
  const parts = /^([+-]?\d{4,})(-\d\d-\d\d)(?:[T ](\d.*?))?( BC)?$/.exec(said);
  if (!parts) return said;
  const year = parts[4] ? 1 - Number(parts[1]) : Number(parts[1]);
  const digits = String(Math.abs(year)).padStart(4, '0');
  const sign = year < 0 ? '-' : year > 9999 ? '+' : '';
  return `${sign}${digits}${parts[2]}${parts[3] ? ` ${parts[3]}` : ''}`;
}

/** Does the target's value say what the source's says? A target may hold it in another form, as long as nothing is lost. */
export function same(source: Meaning, target: Meaning): boolean {
  if (source === null || target === null) return source === target;
  if (source.is === 'json') return sameJson(source, target);
  if (target.is === 'json') return source.is === 'text' ? sameText(source.value, target) : same(source, target.value);
  switch (source.is) {
    case 'bool':
      return readBool(target) === source.value;
    case 'number':
      return readNumber(target) === source.value;
    case 'float':
      return sameFloat(source.value, source.single === true, target);
    case 'text':
    case 'uuid':
      return sameText(source.value, target);
    case 'bytes':
      return readBytes(target) === source.value;
    case 'date':
    case 'time':
    case 'local':
    case 'instant':
      return sameTime(source.is, source.value, target);
    case 'list': {
      const list = target.is === 'text' ? jsonOf(target.value) : target;
      return list?.is === 'list' && sameList(source.value, list.value);
    }
    case 'document': {
      if (target.is === 'text' && target.value === recordText(source.value)) return true;
      const read = target.is === 'text' ? jsonOf(target.value) : target;
      return read?.is === 'document' && sameDocument(source.value, read.value);
    }
  }
}

/** A composite in PostgreSQL's own form, of fields that need no quotes. */
const recordText = (fields: ReadonlyMap<string, Meaning>): string =>
  `(${[...fields.values()].map((value) => (value === null ? '' : plain(value))).join(',')})`;

function sameJson(source: Extract<Some, { is: 'json' }>, target: Some): boolean {
  if (source.value?.is === 'text' && target.is === 'text' && target.value === source.value.value) return true;
  // A system of documents holds JSON as its own values, and has one null.
  const value = target.is === 'json' ? target.value : target.is === 'text' ? tryJson(target.value) : target;
  return value !== undefined && same(source.value, value);
}

const sameList = (source: readonly Meaning[], target: readonly Meaning[]): boolean =>
  source.length === target.length && source.every((value, at) => sameInside(value, target[at] ?? null));

const sameDocument = (source: ReadonlyMap<string, Meaning>, target: ReadonlyMap<string, Meaning>): boolean =>
  source.size === target.size &&
  [...source].every(([name, value]) => target.has(name) && sameInside(value, target.get(name) ?? null));

/** Inside of a list or a document there is one null. */
const sameInside = (source: Meaning, target: Meaning): boolean =>
  target === null && source?.is === 'json' ? source.value === null : same(source, target);

function readBool(target: Some): boolean | undefined {
  if (target.is === 'bool') return target.value;
  const value = target.is === 'text' || target.is === 'number' ? target.value : '';
  return /^(t|true|1)$/.test(value) ? true : /^(f|false|0)$/.test(value) ? false : undefined;
}

function readNumber(target: Some): string | undefined {
  if (target.is === 'float') return plainNumber(String(target.value));
  if (target.is === 'bool') return target.value ? '1' : '0';
  if (target.is === 'bytes') return target.value === '' ? undefined : BigInt(`0x${target.value}`).toString();
  return target.is === 'number' || target.is === 'text' ? plainNumber(target.value) : undefined;
}

function sameFloat(source: number, single: boolean, target: Some): boolean {
  const written = target.is === 'float' ? target.value : Number(readNumber(target) ?? 'none');
  const other = target.is === 'text' && target.value === 'NaN' ? Number.NaN : written;
  if (Number.isNaN(other)) return Number.isNaN(source) && readNumber(target) === 'NaN';
  // Negative zero is a float's alone.
  if (target.is !== 'float' && source === 0) return other === 0;
  return Object.is(single ? Math.fround(other) : other, source);
}

function sameText(source: string, target: Some): boolean {
  if (target.is === 'json') return target.value !== null && target.value.is === 'text' && target.value.value === source;
  return 'value' in target && typeof target.value === 'string' && target.is === 'bytes'
    ? target.value === source.replaceAll('-', '')
    : target.value === source;
}

function readBytes(target: Some): string | undefined {
  if (target.is === 'bytes') return target.value;
  if (target.is === 'uuid') return target.value.replaceAll('-', '');
  return target.is === 'text' ? /^(?:\\x)?([0-9a-f]*)$/i.exec(target.value)?.[1]?.toLowerCase() : undefined;
}

function sameTime(is: 'date' | 'time' | 'local' | 'instant', source: string, target: Some): boolean {
  if (!('value' in target) || typeof target.value !== 'string') return false;
  const value = plainTime(target.value);
  if (value === source) return true;
  return is === 'date' && value === `${source} 00:00:00`;
}

/** JSON with its numbers as they are written. */
export function jsonOf(written: string): Some | undefined {
  return tryJson(written) ?? undefined;
}

function tryJson(written: string): Meaning | undefined {
  try {
    return parseJson(written);
  } catch {
    return undefined;
  }
}

class Written {
  readonly number: string;
  constructor(written: string) {
    this.number = written;
  }
}

/** A number in JSON; extended JSON's own objects mean what they stand for. */
export function parseJson(written: string): Meaning {
  const reviver = (_: string, value: unknown, context?: { source?: string }) =>
    typeof value === 'number' ? new Written(context?.source ?? String(value)) : value;
  return meaningOfJson(JSON.parse(written, reviver as (key: string, value: unknown) => unknown));
}

function meaningOfJson(value: unknown): Meaning {
  if (value === null || value === undefined) return null;
  if (value instanceof Written) return number(value.number);
  if (typeof value === 'boolean') return { is: 'bool', value };
  if (typeof value === 'string') return text(value);
  if (Array.isArray(value)) return { is: 'list', value: value.map(meaningOfJson) };
  const entries = Object.entries(value as Record<string, unknown>);
  return extended(entries) ?? document(entries.map(([name, inner]) => [name, meaningOfJson(inner)] as const));
}

function extended(entries: readonly (readonly [string, unknown])[]): Some | undefined {
  if (entries.length !== 1) return undefined;
  const [name, value] = entries[0] as readonly [string, unknown];
  const said = value instanceof Written ? value.number : value;
  if (typeof said === 'string') {
    if (name === '$numberDouble') return { is: 'float', value: Number(said) };
    if (['$numberInt', '$numberLong', '$numberDecimal'].includes(name)) return number(said) as Some;
    if (name === '$oid') return text(said) as Some;
    if (name === '$uuid') return { is: 'uuid', value: said };
    if (name === '$date') return moment('instant', said) as Some;
  }
  if (name === '$date' && typeof value === 'object' && value !== null && '$numberLong' in value) {
    const date = new Date(Number((value as { $numberLong: string }).$numberLong));
    return moment('instant', instantText(date)) as Some;
  }
  if (name === '$binary' && typeof value === 'object' && value !== null && 'base64' in value) {
    return bytes(Buffer.from(String((value as { base64: string }).base64), 'base64')) as Some;
  }
  return undefined;
}

/** ISO 8601, with a sign and six digits for years outside of 0 to 9999. */
export const instantText = (date: Date): string => date.toISOString().replace('T', ' ').replace('Z', '');

/** For finding rows: dates in one form, also where they stand as text. */
export function keyText(value: Meaning): string {
  const said = plain(value);
  return /^[+-]?\d{4,}-\d\d-\d\d/.test(said) ? plainTime(said).replace(/ 00:00:00$/, '') : said;
}

/** For messages and for matching rows without a key: one text for all forms of a plain value. */
export function plain(value: Meaning): string {
  if (value === null) return '∅';
  if (value.is === 'json') return plain(value.value);
  if (value.is === 'list') return `[${value.value.map(plain).join(', ')}]`;
  if (value.is === 'document')
    return `{${[...value.value].map(([name, inner]) => `${name}: ${plain(inner)}`).join(', ')}}`;
  if (value.is === 'float') return plainNumber(String(value.value));
  if (value.is === 'bool') return value.value ? 'true' : 'false';
  return value.value;
}
