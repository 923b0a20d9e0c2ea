/** A value's text, as a session with pinned settings writes it, to the canonical JavaScript value of connectors/types.ts. */
import type { LogicalType, Value } from '../types.ts';

export type Parse = (text: string) => Value;

const same: Parse = (text) => text;

/** `delimiter` separates the elements of an array (`;` for box). */
export function parserOf(type: LogicalType, delimiter = ','): Parse {
  switch (type.kind) {
    case 'bool':
      return (text) => text === 't' || text === 'true';
    case 'int8':
    case 'int16':
    case 'int32':
    case 'float32':
    case 'float64':
      return Number;
    case 'int64':
    case 'uint64':
      return BigInt;
    case 'bytes':
      return (text) => Buffer.from(text.slice(2), 'hex');
    case 'date':
      return (text) => calendar(text, false);
    case 'timestamp':
    case 'timestamptz':
      return (text) => calendar(text, type.kind === 'timestamptz');
    case 'array': {
      const element = parserOf(innermost(type), delimiter);
      // Bounds other than from 1 have no canonical form: such a value stays the server's text, which loses nothing.
      return (text) => (text.startsWith('[') ? text : parseArray(text, element, delimiter));
    }
    default:
      return same;
  }
}

const innermost = (type: LogicalType): LogicalType => (type.kind === 'array' ? innermost(type.of) : type);

const ordinary = 10; // `YYYY-MM-DD`, and the place of the blank before a time

/** ISO with a blank, `+00`, ` BC` → ISO 8601 with `T`, `Z` and, outside of the years 1 to 9999, an expanded year. */
function calendar(text: string, zoned: boolean): string {
  // Case 1: a year of four digits after Christ.
  if (text.charCodeAt(4) === 45 && !text.endsWith('C')) {
    if (text.length === ordinary) return text;
    return `${text.slice(0, ordinary)}T${zoned ? utc(text.slice(11)) : text.slice(11)}`;
  }
  // Case 2: `infinity`, `-infinity`.
  if (text.endsWith('y')) return text;
  // Case 3: any other year.
  const match = /^(\d+)(-\d\d-\d\d)(?: ([\d:.]+))?(\+00)?( BC)?$/.exec(text);
  if (!match) throw new Error('a date is not in the form the session asked for');
  const year = match[5] ? 1 - Number(match[1]) : Number(match[1]);
  const date = `${year < 0 ? '-' : '+'}${String(Math.abs(year)).padStart(6, '0')}${match[2]}`;
  return match[3] === undefined ? date : `${date}T${match[3]}${zoned ? 'Z' : ''}`;
}

/** The way back: a canonical date or timestamp as PostgreSQL reads it. */
export function serverCalendar(text: string): string {
  const match = /^([+-]\d{6})(-\d\d-\d\d)(?:T([\d:.]+)(Z)?)?$/.exec(text);
  if (!match) return text; // the years 1 to 9999 and the infinities are understood as they are
  const year = Number(match[1]);
  const time = match[3] === undefined ? '' : ` ${match[3]}${match[4] ? '+00' : ''}`;
  return `${String(year > 0 ? year : 1 - year).padStart(4, '0')}${match[2]}${time}${year > 0 ? '' : ' BC'}`;
}

/** Sessions run in UTC, so the zone is always `+00`. */
const utc = (time: string): string => `${time.slice(0, -3)}Z`;

/** `{1,NULL,"a,\"b"}`, any depth. */
export function parseArray(text: string, element: Parse, delimiter: string): Value[] {
  let at = 0;
  const list = (): Value[] => {
    const values: Value[] = [];
    at++; // {
    while (text[at] !== '}') {
      const char = text[at];
      if (char === undefined) throw new Error('an array ends before its brace');
      if (char === delimiter) at++;
      else if (char === '{') values.push(list());
      else if (char === '"') values.push(element(quoted()));
      else {
        const bare = unquoted();
        values.push(bare === 'NULL' ? null : element(bare));
      }
    }
    at++; // }
    return values;
  };
  const quoted = (): string => {
    let value = '';
    let from = ++at;
    for (;;) {
      const char = text[at];
      if (char === undefined) throw new Error('an array ends within quotes');
      if (char === '"') break;
      if (char === '\\') {
        value += text.slice(from, at);
        from = at + 1;
        at++;
      }
      at++;
    }
    value += text.slice(from, at);
    at++;
    return value;
  };
  const unquoted = (): string => {
    const from = at;
    while (at < text.length && text[at] !== delimiter && text[at] !== '}') at++;
    return text.slice(from, at);
  };
  return list();
}
