/** PostgreSQL read by its driver: every value as the text the server prints. */
import pg from 'pg';
import type { Contents } from './contents.ts';
import { float, json, type Meaning, moment, number, parseJson, text } from './meaning.ts';

type Type = { readonly name: string; readonly kind: string; readonly element?: string; readonly composite?: boolean };

export async function readPostgres(url: string, schema: string, table: string): Promise<Contents> {
  const client = new pg.Client({
    connectionString: url,
    types: { getTypeParser: () => (value: unknown) => value } as never,
  });
  await client.connect();
  try {
    await client.query("SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres'; SET DateStyle = 'ISO, YMD'");
    const described = await client.query<{
      column: string;
      name: string;
      kind: string;
      element: string | null;
      composite: string;
    }>(
      `SELECT a.attname AS column, b.typname AS name, b.typtype AS kind, e.typname AS element, coalesce(e.typtype = 'c', false) AS composite
       FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
       CROSS JOIN LATERAL (WITH RECURSIVE base AS (SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typelem, t.typcategory
         UNION ALL SELECT n.oid, n.typname, n.typtype, n.typbasetype, n.typelem, n.typcategory FROM base JOIN pg_type n ON n.oid = base.typbasetype)
         SELECT * FROM base WHERE typbasetype = 0) b
       LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
       WHERE a.attrelid = format('%I.%I', $1::text, $2::text)::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
      [schema, table],
    );
    const types = new Map<string, Type>(
      described.rows.map(({ column, name, kind, element, composite }) => [
        column,
        { name, kind, ...(element ? { element } : {}), composite: composite === 't' },
      ]),
    );
    const list = [...types].map(([name, type]) => expression(pg.escapeIdentifier(name), type)).join(', ');
    // A table's own rows: those of its children are theirs. A partitioned one has no others.
    const [kind] = (
      await client.query<{ relkind: string }>(
        "SELECT relkind FROM pg_class WHERE oid = format('%I.%I', $1::text, $2::text)::regclass",
        [schema, table],
      )
    ).rows;
    const only = kind?.relkind === 'r' ? 'ONLY ' : '';
    const { rows } = await client.query<(string | null)[]>({
      text: `SELECT ${list} FROM ${only}${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(table)}`,
      rowMode: 'array',
    });
    const names = [...types.keys()];
    return {
      columns: new Map([...types].map(([name, type]) => [name, type.element ? `${type.element}[]` : type.name])),
      rows: rows.map(
        (row) => new Map(names.map((name, at) => [name, meaning(types.get(name) as Type, row[at] ?? null)])),
      ),
    };
  } finally {
    await client.end();
  }
}

/** Casts of some would say something else than the type's own output: `t` becomes `true`, a char(5) loses blanks. */
function expression(name: string, { name: type, composite }: Type): string {
  // The fields of a composite are known to JSON.
  if (composite) return `to_json(${name})::text`;
  return ['bool', 'bpchar', 'inet', 'name'].includes(type) ? name : `${name}::text`;
}

function meaning(type: Type, value: string | null): Meaning {
  if (value === null) return null;
  if (type.composite) return parseJson(value);
  if (type.element) return listOf(type.element, value);
  if (type.kind === 'b' && scalars[type.name]) return (scalars[type.name] as (value: string) => Meaning)(value);
  return text(value);
}

const scalars: Readonly<Record<string, (value: string) => Meaning>> = {
  bool: (value) => ({ is: 'bool', value: value === 't' }),
  int2: number,
  int4: number,
  int8: number,
  oid: number,
  numeric: number,
  float4: (value) => float(Math.fround(Number(value)), true),
  float8: (value) => float(Number(value)),
  bytea: (value) => ({ is: 'bytes', value: value.slice(2) }),
  json,
  jsonb: json,
  uuid: (value) => ({ is: 'uuid', value }),
  date: (value) => moment('date', value),
  time: (value) => moment('time', value),
  timestamp: (value) => moment('local', value),
  timestamptz: (value) => moment('instant', value),
};

/** An array's literal: `{1,NULL,"a \"b\""}`, with its bounds before it where they are not 1. */
function listOf(element: string, literal: string): Meaning {
  const delimiter = element === 'box' ? ';' : ',';
  let at = literal.startsWith('[') ? literal.indexOf('=') + 1 : 0;
  const list = (): Meaning => {
    const values: Meaning[] = [];
    at++; // {
    while (literal[at] !== '}') {
      if (literal[at] === delimiter) at++;
      else values.push(literal[at] === '{' ? list() : one());
    }
    at++;
    return { is: 'list', value: values };
  };
  const one = (): Meaning => {
    let value = '';
    if (literal[at] === '"') {
      for (at++; literal[at] !== '"'; at++) value += literal[at] === '\\' ? literal[++at] : literal[at];
      at++;
      return (scalars[element] ?? text)(value);
    }
    for (; literal[at] !== delimiter && literal[at] !== '}'; at++)
      value += literal[at] === '\\' ? literal[++at] : literal[at];
    return value === 'NULL' ? null : (scalars[element] ?? text)(value);
  };
  const value = list();
  return literal.startsWith('[') && value !== null ? ({ ...value, bounds: true } as Meaning) : value;
}
