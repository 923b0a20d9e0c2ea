import { createHash } from 'node:crypto';
import mysql from 'mysql2/promise';
import { type MysqlKind, startMysql } from '../../../servers/mysql.ts';
import { startProxy } from '../../../servers/proxy.ts';
import { createDatabase, databaseUrl, through } from '../addresses.ts';
import { mysqlQuery } from '../kinds/mysql.ts';
import { postgresPlace } from '../kinds/postgres.ts';
import type { History } from '../oracle.ts';
import type { Random } from '../random.ts';
import { type ShopTable, shop } from '../shop.ts';
import { writing } from '../writer.ts';
import type { SourceKind } from './source.ts';

const sourceOf = (kind: MysqlKind): SourceKind => ({
  name: kind,
  async start(at, rows) {
    await using made = new AsyncDisposableStack();
    const server = made.use(await startMysql({ kind }));
    const proxy = made.use(await startProxy({ port: server.port }));
    const name = `from_${kind}`;
    const url = databaseUrl(server.url, name);
    await makeShop(server.url, name, rows);
    const place = postgresPlace(at, await createDatabase(at.target, name));
    const own = made.move();
    return {
      shop: {
        name,
        tables: shop,
        mapping: {
          name,
          source: { source_type: kind, url: through(proxy, url) },
          destination: { copy: place.settings },
          tables: [{ table_name: `${name}.*`, mode: 'replace' }],
        },
        places: { copy: place },
        history: (table) => historyOf(url, table),
      },
      write: (random) =>
        writing(async () => {
          const connection = await mysql.createConnection({ uri: url, charset: 'utf8mb4_bin', connectTimeout: 5_000 });
          connection.on('error', () => {});
          await connection.query("SET time_zone = '+00:00', innodb_lock_wait_timeout = 10");
          return {
            transaction: () => transaction(connection, random, rows),
            close: async () => connection.destroy(),
          };
        }),
      delay: proxy.delay,
      disturbances: [
        { name: 'connections cut', make: async () => proxy.cut() },
        {
          name: 'killed and started again',
          async make() {
            await server.kill();
            await server.restart();
          },
        },
      ],
      [Symbol.asyncDispose]: () => own.disposeAsync(),
    };
  },
});

export const mariadbSource = sourceOf('mariadb');
export const mysqlSource = sourceOf('mysql');

const native = {
  int: 'BIGINT',
  text: 'LONGTEXT',
  money: 'DECIMAL(12,2)',
  instant: 'TIMESTAMP(6) NULL',
  bytes: 'VARBINARY(255)',
} as const;
const typeOf = (table: ShopTable, column: string): string =>
  table.columns[column] === 'text' && table.key.includes(column)
    ? 'CHAR(36) CHARACTER SET ascii COLLATE ascii_bin'
    : native[table.columns[column] as keyof typeof native];

/** As the shop's digest in PostgreSQL. */
const digest = (table: ShopTable, row = ''): string =>
  `MD5(CONCAT_WS('|', ${Object.entries(table.columns)
    .map(([column, kind]) => {
      const name = `${row}${mysql.escapeId(column)}`;
      if (kind === 'instant') return `COALESCE(CAST(CAST(UNIX_TIMESTAMP(${name}) * 1000000 AS SIGNED) AS CHAR), '~')`;
      if (kind === 'bytes') return `COALESCE(LOWER(HEX(${name})), '~')`;
      return kind === 'text' ? `COALESCE(${name}, '~')` : `COALESCE(CAST(${name} AS CHAR), '~')`;
    })
    .join(', ')}))`;
const keyText = (table: ShopTable, row = ''): string =>
  table.key.length === 0 ? "''" : `CONCAT_WS('/', ${table.key.map((name) => `${row}${name}`).join(', ')})`;

const md5 = (text: string): string => createHash('md5').update(text).digest('hex');
const uuid = (text: string): string => md5(text).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

/** The shop's tables and rows in one database; in another what they were and became, noted by triggers in the same transaction. */
async function makeShop(server: string, name: string, rows: number): Promise<void> {
  const history = `${name}_history`;
  await mysqlQuery(
    server,
    `CREATE DATABASE ${name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
     CREATE DATABASE ${history} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
     CREATE TABLE ${history}.first (tbl VARCHAR(20), k VARCHAR(100), hash CHAR(32));
     CREATE TABLE ${history}.changes (n BIGINT AUTO_INCREMENT PRIMARY KEY, transaction BIGINT, tbl VARCHAR(20),
       k VARCHAR(100), hash CHAR(32), gone CHAR(32))`,
  );
  const connection = await mysql.createConnection({ uri: databaseUrl(server, name), charset: 'utf8mb4_bin' });
  try {
    await connection.query("SET time_zone = '+00:00'");
    for (const table of shop) {
      const columns = Object.keys(table.columns).map((column) => `${column} ${typeOf(table, column)}`);
      const key = table.key.length > 0 ? `, PRIMARY KEY (${table.key.join(', ')})` : '';
      await connection.query(`CREATE TABLE ${table.name} (${columns.join(', ')}${key})`);
      for (const some of batches(rowsOf(table, rows))) {
        await connection.query(`INSERT INTO ${table.name} VALUES ?`, [some]);
      }
      await connection.query(
        `INSERT INTO ${history}.first SELECT '${table.name}', ${keyText(table)}, ${digest(table)} FROM ${table.name}`,
      );
      for (const trigger of triggers(history, table)) await connection.query(trigger);
      await connection.query(`ANALYZE TABLE ${table.name}`);
    }
  } finally {
    await connection.end();
  }
}

function triggers(history: string, table: ShopTable): string[] {
  const note = (values: string) =>
    `INSERT INTO ${history}.changes (transaction, tbl, k, hash, gone) VALUES (@transaction, '${table.name}', ${values})`;
  const [was, is] = [digest(table, 'OLD.'), digest(table, 'NEW.')];
  const [from, to] = [keyText(table, 'OLD.'), keyText(table, 'NEW.')];
  const on = (event: string, body: string) =>
    `CREATE TRIGGER note_${table.name}_${event} AFTER ${event} ON ${table.name} FOR EACH ROW ${body}`;
  return [
    on('INSERT', note(`${to}, ${is}, NULL`)),
    on('DELETE', note(`${from}, NULL, ${was}`)),
    on(
      'UPDATE',
      `IF ${from} = ${to} THEN ${note(`${to}, ${is}, ${was}`)};
       ELSE ${note(`${from}, NULL, ${was}`)}; ${note(`${to}, ${is}, NULL`)}; END IF`,
    ),
  ];
}

async function historyOf(url: string, { name }: ShopTable): Promise<History> {
  const history = `${new URL(url).pathname.slice(1)}_history`;
  const select = (table: string, columns: string) =>
    `SELECT k AS \`key\`, hash${columns} FROM ${history}.${table} WHERE tbl = '${name}'`;
  return {
    first: await mysqlQuery(url, select('first', '')),
    changes: await mysqlQuery(url, `${select('changes', ', gone, transaction')} ORDER BY n`),
  };
}

function* batches<T>(rows: Iterable<T>, size = 1_000): Generator<T[]> {
  let batch: T[] = [];
  for (const row of rows) {
    batch.push(row);
    if (batch.length === size) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}

const note = (i: number): string | null => (i % 5 === 0 ? null : i % 7 === 0 ? '' : `line\n\t\\ ${i} ё`);
const at = (i: number): string => new Date(Date.UTC(2024, 0, 1) + i * 1_000).toISOString().slice(0, -1);

/** Gaps of ten between the keys of orders, so that the writer can insert in the midst of them. */
function* rowsOf({ name }: ShopTable, rows: number): Generator<unknown[]> {
  const some = (share: number) => Math.max(1, Math.round(rows * share));
  const money = (i: number) => (i % 100_000) / 100;
  switch (name) {
    case 'orders':
      for (let i = 1; i <= rows; i++) {
        yield [i * 10, 0, i % 997, money(i), at(i), note(i), md5(String(i)).repeat(5)];
      }
      return;
    case 'items':
      for (let i = 1; i <= some(1); i++)
        yield [Math.ceil(i / 2) * 10, i % 2, 0, money(i), Buffer.from(md5(String(i)), 'hex')];
      return;
    case 'visits':
      for (let i = 1; i <= some(0.5); i++) yield [uuid(`v${i}`), 0, `/page/${i}`.repeat(8), at(i)];
      return;
    case 'remarks':
      for (let i = 1; i <= some(0.1); i++) yield [i % 10, 0, md5(String(i))];
      return;
    default:
      for (let i = 1; i <= 50; i++) yield [i, 0, `label ${i}`];
  }
}

let transactions = 0;

async function transaction(connection: mysql.Connection, random: Random, rows: number): Promise<void> {
  const changes = Array.from({ length: random.between(1, 3) }, () => change(random, rows));
  await connection.query(`SET @transaction = ${++transactions}`);
  await connection.query('START TRANSACTION');
  for (const one of changes) await connection.query(one);
  await connection.query('COMMIT');
}

/** One change. Keys are drawn from the whole range, gaps included, so that rows move across chunk borders. */
function change(random: Random, rows: number): string {
  const n = random.between(1, 1_000_000_000);
  const key = () => random.between(1, rows * 10);
  const order = `WHERE id >= ${key()} ORDER BY id LIMIT 1`;
  const visit = `WHERE id >= '${uuid(String(n))}' ORDER BY id LIMIT 1`;
  const item = `WHERE order_id >= ${key()} ORDER BY order_id, line LIMIT`;
  const t = random.between(1, 3);
  switch (random.between(1, 14)) {
    case 1:
    case 2:
      return `UPDATE orders SET rev = rev + 1, amount = ${n % 100_000} / 100, note = 'n${n}' ${order}`;
    case 3:
      return `INSERT IGNORE INTO orders VALUES (${key()}, 0, ${n % 997}, 1.25, NOW(6), NULL, REPEAT('${md5(String(n))}', 5))`;
    case 4:
      return `DELETE FROM orders ${order}`;
    case 5: // a key that moves far: perhaps from a chunk not yet read into one that is, or back
      return `UPDATE IGNORE orders SET id = ${key()}, rev = rev + 1 ${order}`;
    case 6:
      return `UPDATE items SET rev = rev + 1, price = price + 1 ${item} 2`;
    case 7:
      return `INSERT IGNORE INTO items VALUES (${key()}, ${random.between(2, 9)}, 0, 3.5, X'00ff')`;
    case 8:
      return `DELETE FROM items ${item} 2`;
    case 9:
      return `UPDATE visits SET rev = rev + 1, page = CONCAT(page, '${n}') ${visit}`;
    case 10:
      return `INSERT IGNORE INTO visits VALUES ('${uuid(`new ${n}`)}', 0, 'new', NOW(6))`;
    case 11:
      return `UPDATE IGNORE visits SET id = '${uuid(`moved ${n}`)}', rev = rev + 1 ${visit}`;
    case 12:
      return `DELETE FROM visits ${visit}`;
    case 13:
      return random.pick([
        `INSERT INTO remarks VALUES (${n % 10}, 0, 'said ${n}')`,
        `UPDATE remarks SET rev = rev + 1 WHERE who = ${n % 10} LIMIT 1`,
        `DELETE FROM remarks WHERE who = ${n % 10} LIMIT 1`,
      ]);
    default:
      return random.pick([
        `INSERT IGNORE INTO small_${t} VALUES (${50 + (n % 50)}, 0, 'new')`,
        `UPDATE small_${t} SET rev = rev + 1 WHERE id = ${1 + (n % 100)}`,
        `DELETE FROM small_${t} WHERE id = ${1 + (n % 100)}`,
      ]);
  }
}
