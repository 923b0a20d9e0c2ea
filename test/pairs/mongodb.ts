/** MongoDB read by its driver, every value in the class of its BSON type. */
import {
  Binary,
  BSONRegExp,
  Code,
  Decimal128,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  MongoClient,
  ObjectId,
  Timestamp,
} from 'mongodb';
import type { Contents } from './contents.ts';
import { bytes, document, float, instantText, type Meaning, moment, number, text } from './meaning.ts';

export async function readMongodb(url: string, database: string, collection: string): Promise<Contents> {
  await using client = new MongoClient(url);
  const found = client.db(database).collection(collection).find({}, { promoteValues: false, bsonRegExp: true });
  const rows: Map<string, Meaning>[] = [];
  const columns = new Map<string, string>();
  for await (const one of found) {
    const row = new Map(Object.entries(one).map(([name, value]) => [name, meaningOf(value)]));
    for (const [name, value] of row) if (value !== null) columns.set(name, value.is);
    rows.push(row);
  }
  return { columns, rows };
}

export function meaningOf(value: unknown): Meaning {
  if (value === null || value === undefined) return null;
  if (typeof value === 'boolean') return { is: 'bool', value };
  if (typeof value === 'string') return text(value);
  const standing = special(value as object); // first: a timestamp is a Long to JavaScript
  if (standing) return standing;
  if (value instanceof Int32 || value instanceof Long || value instanceof Decimal128) return number(value.toString());
  if (value instanceof Double) return float(value.value);
  if (value instanceof Date) return moment('instant', instantText(value));
  if (value instanceof ObjectId) return text(value.toHexString());
  if (value instanceof Binary) {
    return value.sub_type === Binary.SUBTYPE_UUID
      ? { is: 'uuid', value: value.toUUID().toString() }
      : bytes(value.value());
  }
  if (Array.isArray(value)) return { is: 'list', value: value.map(meaningOf) };
  return document(Object.entries(value as object).map(([name, inner]) => [name, meaningOf(inner)] as const));
}

/** What no other system knows stands as extended JSON writes it. */
function special(value: object): Meaning | undefined {
  const wrapped = (name: string, inner: Meaning) => document([[name, inner]]);
  if (value instanceof MinKey) return wrapped('$minKey', number('1'));
  if (value instanceof MaxKey) return wrapped('$maxKey', number('1'));
  if (value instanceof Code) return wrapped('$code', text(value.code));
  if (value instanceof Timestamp) {
    return wrapped(
      '$timestamp',
      document([
        ['t', number(String(value.t))],
        ['i', number(String(value.i))],
      ]),
    );
  }
  if (value instanceof BSONRegExp) {
    return wrapped(
      '$regularExpression',
      document([
        ['pattern', text(value.pattern)],
        ['options', text(value.options)],
      ]),
    );
  }
  return undefined;
}

/**
 * The documents as the columns of that table would have them: nested fields under their names joined by `_`, fields of
 * several types as JSON. A leaf that no column stands for is told by `lost`.
 */
export function flattened(source: Contents, columns: Iterable<string>, lost: (path: string) => void): Contents {
  const names = [...columns];
  const known = new Set(names);
  const missing = new Set<string>();
  const visit = (value: Meaning, path: string) => {
    if (known.has(path) || value === null) return;
    if (value.is === 'document' && value.value.size > 0)
      for (const [name, inner] of value.value) visit(inner, `${path}_${name}`);
    else if (!(value.is === 'document')) missing.add(path);
  };
  const rows = source.rows.map((row) => {
    for (const [name, value] of row) visit(value, name);
    return new Map(names.map((name) => [name, find(row, name)]));
  });
  for (const path of missing) lost(path);
  for (const name of names) {
    const kinds = new Set(rows.map((row) => kindOf(row.get(name) ?? null)).filter((kind) => kind !== 'none'));
    if (kinds.size < 2) continue;
    for (const row of rows) {
      const value = row.get(name) ?? null;
      if (value !== null) row.set(name, { is: 'json', value });
    }
  }
  return { columns: new Map(names.map((name) => [name, ''])), rows };
}

/** Values of one kind share a column; of several they stand there as JSON. */
const kindOf = (value: Meaning): string => (value === null ? 'none' : value.is === 'float' ? 'number' : value.is);

function find(fields: ReadonlyMap<string, Meaning>, name: string): Meaning {
  if (fields.has(name)) return fields.get(name) ?? null;
  for (let at = name.indexOf('_', 1); at > 0; at = name.indexOf('_', at + 1)) {
    const inner = fields.get(name.slice(0, at));
    if (inner?.is !== 'document') continue;
    const found = find(inner.value, name.slice(at + 1));
    if (found !== null) return found;
  }
  return null;
}
