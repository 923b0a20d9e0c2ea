import mysql from 'mysql2/promise';
import { type MysqlKind, startMysql } from '../../../servers/mysql.ts';
import { startProxy } from '../../../servers/proxy.ts';
import { databaseUrl, through } from '../addresses.ts';
import { type Content, contentOf } from '../oracle.ts';
import { rowDigest, type ShopTable } from '../shop.ts';
import type { Kind, Place } from './kind.ts';

const kindOf = (name: MysqlKind): Kind => ({
  name,
  writing: ['after-read', 'before-commit', 'between-checkpoint-and-commit', 'after-commit', 'before-answer'],
  publishing: ['in-swap', 'after-swap'],
  async start() {
    await using made = new AsyncDisposableStack();
    const server = made.use(await startMysql({ kind: name }));
    const proxy = made.use(await startProxy({ port: server.port }));
    const own = made.move();
    return {
      async place(database) {
        await mysqlQuery(server.url, `CREATE DATABASE ${mysql.escapeId(database)}`);
        const url = databaseUrl(server.url, database);
        return placeIn({ kind: name, url, proxied: through(proxy, url), database });
      },
      disturbances: [
        {
          name: 'killed and started again',
          async make() {
            await server.kill();
            await server.restart();
          },
        },
        { name: 'connections cut', make: async () => proxy.cut() },
        { name: 'restarted', make: () => server.restart() },
      ],
      [Symbol.asyncDispose]: () => own.disposeAsync(),
    };
  },
  // As with PostgreSQL: whoever claims a chunk ends the older attempt's session, and the older attempt's checkpoint finds its
  // epoch over.
  fence: {
    stopAt: 'before-commit',
    wakes: true,
    changes: [
      {
        file: 'connectors/mysql/target/session-mark.ts',
        from: 'if (marks.get(session) === mark) return;',
        to: 'if (mark) return;',
      },
      {
        file: 'connectors/mysql/target/claim.ts',
        from: 'if (affected !== 1) throw fenced(work, claim);',
        to: '',
      },
    ],
  },
});

export const mariadb = kindOf('mariadb');
export const mysqlKind = kindOf('mysql');

type Where = { readonly kind: MysqlKind; readonly url: string; readonly proxied: string; readonly database: string };

const placeIn = ({ kind, url, proxied, database }: Where): Place => ({
  settings: { destination_type: kind, url: proxied, schema: database },
  async content(table): Promise<Content> {
    const connection = await mysql.createConnection({ uri: url, charset: 'utf8mb4_bin' });
    try {
      await connection.query("SET SESSION time_zone = '+00:00', sql_mode = ''");
      const columns = Object.keys(table.columns);
      const [rows] = await connection.query<mysql.RowDataPacket[]>({
        sql: `SELECT ${columns.map((name) => mysql.escapeId(name)).join(', ')} FROM ${mysql.escapeId(table.name)}`,
        typeCast: (field) => field.buffer(),
      });
      return contentOf(
        rows.map((row) => rowDigest(table, (column) => textOf(table, row[column] as Buffer | null, column))),
        table.key.length > 0,
      );
    } finally {
      await connection.end();
    }
  },
  strays: (published) => strays({ url, database }, published),
  async idle() {
    const open = await mysqlQuery<{ id: number }>(
      url,
      `SELECT t.trx_mysql_thread_id AS id FROM information_schema.innodb_trx t
       JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE p.command = 'Sleep' AND p.db = '${database}'`,
    );
    return open.map(({ id }) => `session ${id}`);
  },
});

const textOf = (table: ShopTable, value: Buffer | null, column: string): string | null =>
  value && (table.columns[column] === 'bytes' ? value.toString('hex') : value.toString('utf8'));

/** Godwit's own database serves all databases of the server: only what belongs to this one is looked at, and what to none. */
async function strays(at: { url: string; database: string }, published: ReadonlySet<string>): Promise<string[]> {
  const tables = await mysqlQuery<{ place: string; name: string }>(
    at.url,
    `SELECT table_schema AS place, table_name AS name FROM information_schema.tables
     WHERE table_schema IN ('${at.database}', '_godwit')`,
  );
  const found = tables
    .filter(({ place, name }) => place !== '_godwit' && !published.has(`${place}.${name}`))
    .map(({ place, name }) => `${place}.${name}`);
  if (!tables.some(({ place, name }) => place === '_godwit' && name === 'work')) return found;
  type Book = { id: string; schema_name: string; table_name: string; open: number };
  const works = await mysqlQuery<Book>(
    at.url,
    'SELECT id, schema_name, table_name, published_at IS NULL AS open FROM _godwit.work',
  );
  const known = new Map(works.map((work) => [work.id, work]));
  for (const { name } of tables.filter(({ place }) => place === '_godwit')) {
    const id = /^[to]_([0-9a-f]{32})$/.exec(name)?.[1];
    if (id !== undefined && (known.get(id)?.schema_name ?? at.database) === at.database) found.push(`_godwit.${name}`);
  }
  for (const work of works) {
    if (work.schema_name === at.database && Number(work.open) === 1)
      found.push(`books of unpublished ${work.table_name}`);
  }
  const chunks = await mysqlQuery<{ id: string }>(at.url, 'SELECT DISTINCT work AS id FROM _godwit.chunk');
  for (const { id } of chunks) if (!known.has(id)) found.push('a chunk without its work');
  return found;
}

export async function mysqlQuery<Row = Record<string, unknown>>(url: string, sql: string): Promise<Row[]> {
  const connection = await mysql.createConnection({ uri: url, charset: 'utf8mb4_bin', multipleStatements: true });
  try {
    const [rows] = await connection.query(sql);
    return rows as Row[];
  } finally {
    await connection.end();
  }
}
