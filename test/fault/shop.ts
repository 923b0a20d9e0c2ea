import { createHash } from 'node:crypto';
import type pg from 'pg';

/** A column of the fault tests' tables, in types whose text is the same in PostgreSQL, DuckDB and on every target. */
type Kind = 'int' | 'text' | 'money' | 'instant' | 'bytes';
export type ShopTable = {
  readonly name: string;
  readonly columns: Readonly<Record<string, Kind>>;
  /** Empty: a table without a key, compared as a bag of rows. */
  readonly key: readonly string[];
};

export const orders: ShopTable = {
  name: 'orders',
  columns: { id: 'int', rev: 'int', customer: 'int', amount: 'money', at: 'instant', note: 'text', payload: 'text' },
  key: ['id'],
};
export const items: ShopTable = {
  name: 'items',
  columns: { order_id: 'int', line: 'int', rev: 'int', price: 'money', body: 'bytes' },
  key: ['order_id', 'line'],
};
/** Keys in no order: read by block range. */
export const visits: ShopTable = {
  name: 'visits',
  columns: { id: 'text', rev: 'int', page: 'text', at: 'instant' },
  key: ['id'],
};
export const remarks: ShopTable = { name: 'remarks', columns: { who: 'int', rev: 'int', said: 'text' }, key: [] };
export const small = (n: number): ShopTable => ({
  name: `small_${n}`,
  columns: { id: 'int', rev: 'int', label: 'text' },
  key: ['id'],
});

export const shop: readonly ShopTable[] = [orders, items, visits, remarks, small(1), small(2), small(3)];

const native: Record<Kind, string> = {
  int: 'bigint',
  text: 'text',
  money: 'numeric(12,2)',
  instant: 'timestamptz',
  bytes: 'bytea',
};

/** MD5 of all columns of a row, and its key as text, in PostgreSQL's SQL. */
export const digest = (table: ShopTable, row = ''): string =>
  `md5(concat_ws('|', ${Object.entries(table.columns)
    .map(([name, kind]) => `coalesce(${textOf(row + name, kind)}, '~')`)
    .join(', ')}))`;
const textOf = (column: string, kind: Kind): string => {
  if (kind === 'instant') return `(extract(epoch from ${column}) * 1000000)::bigint::text`;
  return kind === 'bytes' ? `encode(${column}, 'hex')` : `${column}::text`;
};
export const keyText = (table: ShopTable, row = ''): string =>
  table.key.length === 0 ? "''" : `concat_ws('/', ${table.key.map((name) => `${row}${name}::text`).join(', ')})`;

/** The same in DuckDB's SQL, for files. */
export const digestInDuckDb = (table: ShopTable): string =>
  `md5(concat_ws('|', ${Object.entries(table.columns)
    .map(([name, kind]) => `coalesce(${textInDuckDb(name, kind)}, '~')`)
    .join(', ')}))`;
const textInDuckDb = (column: string, kind: Kind): string => {
  if (kind === 'instant') return `epoch_us("${column}")::varchar`;
  return kind === 'bytes' ? `lower(hex("${column}"))` : `"${column}"::varchar`;
};
export const keyTextInDuckDb = (table: ShopTable): string =>
  table.key.length === 0 ? "''" : `concat_ws('/', ${table.key.map((name) => `"${name}"::varchar`).join(', ')})`;

/** The same of a row that a driver gave, each value in its text form; instants in ISO form, in UTC. */
export function rowDigest(
  table: ShopTable,
  text: (column: string) => string | null,
): { readonly key: string; readonly hash: string } {
  const values = Object.entries(table.columns).map(([name, kind]) => {
    const value = text(name);
    if (value === null) return '~';
    return kind === 'instant' ? microseconds(value) : value;
  });
  return {
    key: table.key.map((name) => text(name) ?? '').join('/'),
    hash: createHash('md5').update(values.join('|')).digest('hex'),
  };
}

/** `2024-01-01 00:00:10.5+00` → since 1970. */
function microseconds(iso: string): string {
  const [, day, time, fraction = ''] =
    /^(\d+-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|\+00(?::00)?)?$/.exec(iso) ?? [];
  if (day === undefined) throw new Error(`no instant in UTC: ${iso}`);
  return String(BigInt(Date.parse(`${day}T${time}Z`)) * 1_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6)));
}

const typeOf = (table: ShopTable, column: string): string =>
  table === visits && column === 'id' ? 'uuid' : native[table.columns[column] as Kind];

/**
 * Makes schema `shop` with about `rows` orders (260 bytes each), and schema `history`: `first` has the hash of every row
 * as it was made, triggers put every later version into `changes` in the same transaction. So what was ever committed
 * is known exactly, whatever happened to the writer or the server.
 */
export async function makeShop(client: pg.Client, rows: number): Promise<void> {
  const some = (share: number) => Math.max(1, Math.round(rows * share));
  await client.query(`CREATE SCHEMA shop; CREATE SCHEMA history;
    CREATE TABLE history.first (tbl text, key text, hash text);
    CREATE TABLE history.changes (n bigserial, tbl text, key text, hash text)`);
  for (const table of shop) {
    const columns = Object.keys(table.columns).map((name) => `${name} ${typeOf(table, name)}`);
    const key = table.key.length > 0 ? `, PRIMARY KEY (${table.key.join(', ')})` : '';
    await client.query(`CREATE TABLE shop.${table.name} (${columns.join(', ')}${key})`);
  }
  // Gaps of ten between the keys, so that the writer can insert in the midst of them.
  await client.query(`
    INSERT INTO shop.orders SELECT i * 10, 0, i % 997, (i % 100000) / 100.0, timestamptz '2024-01-01' + i * interval '1 s',
      CASE WHEN i % 5 = 0 THEN NULL WHEN i % 7 = 0 THEN '' ELSE E'line\\n\\t\\\\ ' || i END, repeat(md5(i::text), 5)
      FROM generate_series(1, ${rows}) i;
    INSERT INTO shop.items SELECT (1 + (i - 1) / 2) * 10, i % 2, 0, i / 7.0, decode(md5(i::text), 'hex')
      FROM generate_series(1, ${some(0.5)} * 2) i;
    INSERT INTO shop.visits SELECT md5('v' || i)::uuid, 0, repeat('/page/' || i, 8), timestamptz '2024-01-01' + i * interval '1 s'
      FROM generate_series(1, ${some(0.5)}) i;
    INSERT INTO shop.remarks SELECT i % 10, 0, md5(i::text) FROM generate_series(1, ${some(0.1)}) i;
    ALTER TABLE shop.items ADD FOREIGN KEY (order_id) REFERENCES shop.orders ON UPDATE CASCADE ON DELETE CASCADE`);
  for (let n = 1; n <= 3; n++) {
    await client.query(`INSERT INTO shop.small_${n} SELECT i, 0, 'label ' || i FROM generate_series(1, 50) i`);
  }
  for (const table of shop) {
    await client.query(`
      INSERT INTO history.first SELECT '${table.name}', ${keyText(table)}, ${digest(table)} FROM shop.${table.name};
      CREATE FUNCTION history.note_${table.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF tg_op <> 'INSERT' THEN
          INSERT INTO history.changes (tbl, key) VALUES ('${table.name}', ${keyText(table, 'old.')});
        END IF;
        IF tg_op <> 'DELETE' THEN
          INSERT INTO history.changes (tbl, key, hash)
            VALUES ('${table.name}', ${keyText(table, 'new.')}, ${digest(table, 'new.')});
        END IF;
        RETURN NULL;
      END $$;
      CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON shop.${table.name}
        FOR EACH ROW EXECUTE FUNCTION history.note_${table.name}()`);
  }
  await client.query(
    'VACUUM (ANALYZE) shop.orders, shop.items, shop.visits, shop.remarks, shop.small_1, shop.small_2, shop.small_3',
  );
}
