/**
 * `npm run bench:systems [-- --small] [--rounds N] [--rows N] [--only mysql-pg,pg-mysql,mysql-mysql,mongo-mongo,mongo-pg,parquet]`:
 * MySQL (a MariaDB server) and MongoDB beside their own tools, in turn on the same rows. Peers: `psql`, `mariadb`,
 * `mariadb-dump`, `pgloader` on PATH; what is missing is said and left out.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BSON, MongoClient } from 'mongodb';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { type MongodbServer, realMongodb, startMongodb } from '../servers/mongodb.ts';
import { type MysqlServer, startMysql } from '../servers/mysql.ts';
import { type PostgresServer, startPostgres } from '../servers/postgres.ts';
import { type Contender, compare, godwit, line, outside } from './compare.ts';
import { fill, mysqlColumns } from './data.ts';
import { Installation } from './installation.ts';
import { mysqlClient, onPath, pgloader, pipeText, runSql, shell } from './peers.ts';

const { values: options } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    rows: { type: 'string' },
    only: { type: 'string', default: 'mysql-pg,pg-mysql,mysql-mysql,mongo-mongo,mongo-pg,parquet' },
  },
});
const count = Number(options.rows ?? (options.small ? 200_000 : 2_000_000));
/** mongo-java-server keeps everything in memory. */
const documentCount = Math.min(count, 500_000);
const rounds = Number(options.rounds ?? (options.small ? 2 : 5));
const only = new Set(options.only.split(','));
const durable = { durable: true } as const;

type Servers = { readonly pg: PostgresServer; readonly from: MysqlServer; readonly to: MysqlServer };

const onMysql = async (server: MysqlServer, ...statements: readonly string[]) => {
  const connection = await mysql.createConnection(server.url);
  try {
    for (const statement of statements) await connection.query(statement);
  } finally {
    await connection.end();
  }
};
const onPostgres = async (server: PostgresServer, ...statements: readonly string[]) => {
  const client = new pg.Client(server.url);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
};

const makePeerTable = `CREATE OR REPLACE TABLE peer.big (${mysqlColumns}, PRIMARY KEY (id)) CHARACTER SET utf8mb4`;
const emptied = [
  'DROP DATABASE IF EXISTS copied',
  'DROP DATABASE IF EXISTS _godwit',
  'CREATE DATABASE IF NOT EXISTS peer',
  makePeerTable,
];

/** The rows of `bench/data.ts` in PostgreSQL, in a file of LOAD DATA's dialect, and from that in the MySQL source. */
async function fillAll({ pg: postgres, from }: Servers, file: string): Promise<void> {
  const client = new pg.Client(postgres.url);
  await client.connect();
  await fill(client, 'big', count);
  await client.end();
  const utc = { PGTZ: 'UTC' };
  const select =
    "SELECT id, customer, title, amount, currency, created_at AT TIME ZONE 'UTC', shipped_at, note, paid::int, quantity, reference, details FROM big";
  await shell(`psql -X -q -d '${postgres.url}' -c "COPY (${select}) TO STDOUT" > ${file}`, utc);
  await onMysql(
    from,
    'CREATE DATABASE shop',
    `CREATE TABLE shop.big (${mysqlColumns}, PRIMARY KEY (id)) CHARACTER SET utf8mb4`,
  );
  await shell(mysqlClient(from, 'shop', loadFile(file)));
  await onMysql(from, 'ANALYZE TABLE shop.big');
}

const loadFile = (file: string) => `LOAD DATA LOCAL INFILE '${file}' INTO TABLE big CHARACTER SET utf8mb4`;

async function mysqlToPostgres(servers: Servers, installation: Installation, folder: string) {
  const { pg: postgres, from } = servers;
  await installation.apply({
    name: 'mysql-pg',
    source: { source_type: 'mariadb', url: `${from.url}/shop` },
    destination: { copy: { destination_type: 'pgsql', url: postgres.url, schema: 'copied' } },
    tables: [{ table_name: 'big', mode: 'replace' }],
  } as { name: string });
  const contenders: Contender[] = [
    { name: 'godwit', run: () => godwit(installation, 'mysql-pg') },
    {
      name: 'psql | psql text COPY of the same rows',
      run: async () => {
        await runSql(postgres.url, 'ALTER TABLE peer ADD PRIMARY KEY (id)');
        return outside(() => pipeText(postgres.url, 'public.big', 'peer'));
      },
    },
  ];
  if (onPath('pgloader'))
    contenders.push({ name: 'pgloader', run: () => outside(() => pgloader(from, 'shop', postgres.url, folder)) });
  else line('no pgloader on PATH: that peer is left out');
  await compare({
    title: 'MySQL (MariaDB) → PostgreSQL',
    count,
    rounds,
    servers: { source: from, target: postgres },
    contenders,
    rest: () =>
      onPostgres(
        postgres,
        'DROP SCHEMA IF EXISTS copied CASCADE; DROP SCHEMA IF EXISTS shop CASCADE; DROP SCHEMA IF EXISTS _godwit CASCADE',
        'DROP TABLE IF EXISTS peer; CREATE TABLE peer (LIKE big)',
        'CHECKPOINT',
      ),
  });
}

async function postgresToMysql(servers: Servers, installation: Installation, file: string) {
  const { pg: postgres, to } = servers;
  await installation.apply({
    name: 'pg-mysql',
    source: { source_type: 'pgsql', url: postgres.url },
    destination: { copy: { destination_type: 'mariadb', url: `${to.url}/copied`, schema: 'copied' } },
    tables: [{ table_name: 'public.big', mode: 'replace' }],
  } as { name: string });
  await compare({
    title: 'PostgreSQL → MySQL (MariaDB)',
    count,
    rounds,
    servers: { source: postgres, target: to },
    contenders: [
      { name: 'godwit', run: () => godwit(installation, 'pg-mysql') },
      {
        name: 'mariadb, LOAD DATA from a file that is there already',
        run: () => outside(() => shell(mysqlClient(to, 'peer', loadFile(file)))),
      },
    ],
    rest: () => onMysql(to, ...emptied, 'CREATE DATABASE copied'),
  });
}

async function mysqlToMysql({ from, to }: Servers, installation: Installation) {
  await installation.apply({
    name: 'mysql-mysql',
    source: { source_type: 'mariadb', url: `${from.url}/shop` },
    destination: { copy: { destination_type: 'mariadb', url: `${to.url}/copied`, schema: 'copied' } },
    tables: [{ table_name: 'big', mode: 'replace' }],
  } as { name: string });
  const dump = `mariadb-dump --no-defaults -h ${from.host} -P ${from.port} -u ${from.user} --single-transaction --quick shop big`;
  const load = `mariadb --no-defaults -h ${to.host} -P ${to.port} -u ${to.user} peer`;
  const contenders: Contender[] = [{ name: 'godwit', run: () => godwit(installation, 'mysql-mysql') }];
  if (onPath('mariadb-dump'))
    contenders.push({
      name: 'mariadb-dump | mariadb',
      run: () =>
        outside(() =>
          shell(`MYSQL_PWD='${from.password}' ${dump} | MYSQL_PWD='${to.password}' ${load}`, {
            MYSQL_HISTFILE: '/dev/null',
          }),
        ),
    });
  else line('no mariadb-dump on PATH: that peer is left out');
  await compare({
    title: 'MySQL (MariaDB) → MySQL (MariaDB)',
    count,
    rounds,
    servers: { source: from, target: to },
    contenders,
    rest: () => onMysql(to, ...emptied, 'CREATE DATABASE copied'),
  });
}

/** About 280 bytes of BSON. */
const documentOf = (i: number) => ({
  _id: new BSON.ObjectId(`${i.toString(16).padStart(24, '0')}`),
  customer: i % 100_003,
  title: `order ${i} of the bench, with some words`,
  amount: BSON.Decimal128.fromString(((i % 1_000_000) / 100).toFixed(2)),
  currency: ['EUR', 'USD', 'INR'][i % 3],
  created_at: new Date(1_577_836_800_000 + i * 1000),
  note: i % 5 === 0 ? null : `deliver to the back door, ask for ${i}`,
  paid: i % 2 === 0,
  quantity: i % 17,
  total: BSON.Long.fromNumber(i * 3),
  details: { n: i, tag: `t${i % 11}`, weight: i / 7 },
});
const atOnce = 10_000;

async function fillMongodb(server: MongodbServer): Promise<void> {
  await using client = new MongoClient(server.url);
  const collection = client.db('shop').collection('big');
  for (let i = 0; i < documentCount; i += atOnce) {
    const documents = Array.from({ length: Math.min(atOnce, documentCount - i) }, (_, k) => documentOf(i + k));
    await collection.insertMany(documents as never);
  }
}

/** insertMany of documents that are in memory already: no reading is in its time. */
async function insertMany(server: MongodbServer): Promise<{ wall: number; mover: number; memory: number }> {
  await using client = new MongoClient(server.url);
  const collection = client.db('peer').collection('big');
  let wall = 0;
  const before = process.cpuUsage();
  for (let i = 0; i < documentCount; i += atOnce) {
    const documents = Array.from({ length: Math.min(atOnce, documentCount - i) }, (_, k) => documentOf(i + k));
    const start = performance.now();
    await collection.insertMany(documents as never, { ordered: false, forceServerObjectId: true });
    wall += (performance.now() - start) / 1000;
  }
  const { user, system } = process.cpuUsage(before);
  return { wall, mover: (user + system) / 1e6, memory: 0 };
}

/** What the source and the driver alone can do: nothing is looked into, nothing kept. */
async function readAndThrownAway(server: MongodbServer): Promise<{ wall: number; mover: number; memory: number }> {
  await using client = new MongoClient(server.url);
  const before = process.cpuUsage();
  const start = performance.now();
  let seen = 0;
  for await (const _ of client.db('shop').collection('big').find({}, { raw: true, batchSize: 20_000 })) seen++;
  const wall = (performance.now() - start) / 1000;
  if (seen !== documentCount) throw new Error(`${seen} documents instead of ${documentCount}`);
  const { user, system } = process.cpuUsage(before);
  return { wall, mover: (user + system) / 1e6, memory: 0 };
}

async function mongodbToMongodb(from: MongodbServer, to: MongodbServer, installation: Installation) {
  await installation.apply({
    name: 'mongo-mongo',
    source: { source_type: 'mongo', url: from.url, db_name: 'shop' },
    destination: { copy: { destination_type: 'mongo', url: to.url, db_name: 'copied', schema: 'copied' } },
    tables: [{ table_name: 'big', mode: 'replace' }],
  } as { name: string });
  await compare({
    title: 'MongoDB → MongoDB, raw',
    count: documentCount,
    rounds,
    servers: { source: from, target: to },
    contenders: [
      { name: 'godwit', run: () => godwit(installation, 'mongo-mongo') },
      { name: 'insertMany of the same documents, in memory', run: () => insertMany(to) },
    ],
    rest: async () => {
      await using client = new MongoClient(to.url);
      await client.db('copied').dropDatabase();
      await client.db('peer').dropDatabase();
    },
  });
}

async function mongodbToPostgres(from: MongodbServer, postgres: PostgresServer, installation: Installation) {
  for (const documents of ['fields', 'flatten']) {
    await installation.apply({
      name: `mongo-pg-${documents}`,
      source: { source_type: 'mongo', url: from.url, db_name: 'shop' },
      destination: { copy: { destination_type: 'pgsql', url: postgres.url, schema: 'documents' } },
      tables: [{ table_name: 'big', mode: 'replace', documents }],
    } as { name: string });
    await compare({
      title: `MongoDB → PostgreSQL, documents: ${documents}`,
      count: documentCount,
      rounds,
      servers: { source: from, target: postgres },
      contenders: [
        { name: 'godwit', run: () => godwit(installation, `mongo-pg-${documents}`) },
        { name: "the driver's find, raw, read and thrown away", run: () => readAndThrownAway(from) },
      ],
      rest: () =>
        onPostgres(
          postgres,
          'DROP SCHEMA IF EXISTS documents CASCADE; DROP SCHEMA IF EXISTS _godwit CASCADE',
          'CHECKPOINT',
        ),
    });
  }
}

async function toParquet(
  name: string,
  count: number,
  source: Record<string, unknown>,
  server: { readonly pid: number },
  installation: Installation,
) {
  const path = join(installation.home, 'files', name);
  await installation.apply({
    name,
    source,
    destination: { lake: { destination_type: 'files', path } },
    tables: [{ table_name: 'big', mode: 'replace' }],
  } as { name: string });
  await compare({
    title: `${name} (Parquet, zstd)`,
    count,
    rounds,
    servers: { source: server, target: server },
    contenders: [{ name: 'godwit', run: () => godwit(installation, name) }],
    rest: () => rm(path, { recursive: true, force: true }),
  });
}

if (!onPath('psql') || !onPath('mariadb')) {
  line('This bench needs `psql` and `mariadb` on PATH as its peers.');
  process.exit(2);
}
const folder = await mkdtemp(join(tmpdir(), 'godwit-bench-data-'));
try {
  await using installation = await Installation.start();
  const settings = { shared_buffers: '512MB', max_wal_size: '8GB', checkpoint_timeout: '30min' };
  await using postgres = await startPostgres({ ...durable, settings });
  const wantsMysql = ['mysql-pg', 'pg-mysql', 'mysql-mysql', 'parquet'].some((name) => only.has(name));
  if (wantsMysql) {
    const memory = { 'innodb-buffer-pool-size': '512M', 'innodb-log-file-size': '1G' };
    await using from = await startMysql({ kind: 'mariadb', ...durable, settings: memory });
    await using to = await startMysql({ kind: 'mariadb', ...durable, settings: memory });
    const servers = { pg: postgres, from, to };
    const file = join(folder, 'big.tsv');
    line(`PostgreSQL ${postgres.version}, MariaDB ${from.version}, ${count.toLocaleString('en')} rows; filling …`);
    await fillAll(servers, file);
    if (only.has('mysql-pg')) await mysqlToPostgres(servers, installation, folder);
    if (only.has('pg-mysql')) await postgresToMysql(servers, installation, file);
    if (only.has('mysql-mysql')) await mysqlToMysql(servers, installation);
    if (only.has('parquet')) {
      const source = { source_type: 'mariadb', url: `${from.url}/shop` };
      await toParquet('mysql-parquet', count, source, from, installation);
    }
  }
  if (['mongo-mongo', 'mongo-pg', 'parquet'].some((name) => only.has(name))) {
    const kind = await realMongodb();
    // A cache, or (mongo-java-server) all there is.
    const megabytes = kind === 'mongo-java-server' ? 3000 : 1024;
    await using from = await startMongodb({ kind, megabytes });
    await using to = await startMongodb({ kind, megabytes });
    line(`${kind}, filling …`);
    await fillMongodb(from);
    if (only.has('mongo-mongo')) await mongodbToMongodb(from, to, installation);
    if (only.has('mongo-pg')) await mongodbToPostgres(from, postgres, installation);
    if (only.has('parquet')) {
      const source = { source_type: 'mongo', url: from.url, db_name: 'shop' };
      await toParquet('mongo-parquet', documentCount, source, from, installation);
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
