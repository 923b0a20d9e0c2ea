/** The programs Godwit is held against, each found on PATH or said to be missing. */
import { spawn, spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export const onPath = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

/** Runs a shell line; throws with its error output unless it exits 0. */
export const shell = (line: string, env: NodeJS.ProcessEnv = {}): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn('bash', ['-o', 'pipefail', '-c', line], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env },
    });
    let errors = '';
    child.stderr.on('data', (data) => {
      errors += data;
    });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${line}\nexited ${code}: ${errors}`))));
  });

const psql = (url: string, sql: string) => `psql -X -q -v ON_ERROR_STOP=1 -d '${url}' -c "${sql}"`;

export const pipeBinary = (from: string, to: string, table: string, into: string) =>
  shell(
    `${psql(from, `COPY ${table} TO STDOUT (FORMAT binary)`)} | ${psql(to, `COPY ${into} FROM STDIN (FORMAT binary)`)}`,
  );

export const runSql = (url: string, sql: string) => shell(psql(url, sql));

/** `psql` CSV into the DuckDB program that is here: the CLI, or Python's module. */
export function pipeParquet(from: string, table: string, file: string, duckdb: string) {
  const types =
    "{'id':'BIGINT','customer':'INTEGER','title':'VARCHAR','amount':'DECIMAL(12,2)','currency':'VARCHAR','created_at':'TIMESTAMPTZ','shipped_at':'TIMESTAMP','note':'VARCHAR','paid':'BOOLEAN','quantity':'INTEGER','reference':'UUID','details':'VARCHAR'}";
  const sql = `COPY (SELECT * FROM read_csv('/dev/stdin', header=false, auto_detect=false, quote='"', escape='"', delim=',', allow_quoted_nulls=false, columns=${types})) TO '${file}' (FORMAT parquet, COMPRESSION zstd)`;
  const quoted = sql.replaceAll('"', '\\"');
  const run = /python3?$/.test(duckdb)
    ? `${duckdb} -c "import duckdb,sys; duckdb.sql(sys.argv[1])" "${quoted}"`
    : `${duckdb} -c "${quoted}"`;
  return shell(`${psql(from, `COPY ${table} TO STDOUT (FORMAT csv)`)} | ${run}`, { PGTZ: 'UTC' });
}

/** connectorx + pyarrow: reads in parallel into Arrow, writes zstd Parquet. It turns decimals into doubles. */
export const connectorx = (python: string, from: string, table: string, file: string) =>
  shell(
    `${python} -c "import connectorx as cx, pyarrow.parquet as pq; t = cx.read_sql('${from}', 'SELECT * FROM ${table}', return_type='arrow', partition_on='id', partition_num=4); pq.write_table(t, '${file}', compression='zstd')"`,
  );

/** Sling (`sling` on PATH, or `GODWIT_BENCH_SLING`): its own full refresh of one table. */
export const sling = (program: string, from: string, to: string, table: string, into: string) =>
  shell(
    `${program} run --src-conn GODWIT_FROM --src-stream ${table} --tgt-conn GODWIT_TO --tgt-object ${into} --mode full-refresh`,
    { GODWIT_FROM: `${from}?sslmode=disable`, GODWIT_TO: `${to}?sslmode=disable` },
  );

/** dlt with its quickest settings for this: Arrow batches, CSV files, COPY. */
export function dlt(python: string, way: { from: string; to: string; table: string; dataset: string; folder: string }) {
  const program = `
import dlt, sys
from dlt.sources.sql_database import sql_table
source, target, table, dataset, folder = sys.argv[1:6]
p = dlt.pipeline("bench", pipelines_dir=folder, destination=dlt.destinations.postgres(target), dataset_name=dataset)
p.run(sql_table(credentials=source, table=table, backend="pyarrow", chunk_size=100000), write_disposition="replace", loader_file_format="csv")
`;
  const from = way.from.replace(/^postgres(ql)?:/, 'postgresql+psycopg2:');
  const to = way.to.replace(/^postgres:/, 'postgresql:');
  return shell(`${python} -c '${program}' '${from}' '${to}' ${way.table} ${way.dataset} '${way.folder}'`, {
    RUNTIME__DLTHUB_TELEMETRY: 'false',
    RUNTIME__LOG_LEVEL: 'ERROR',
  });
}

export const pipeText = (url: string, table: string, into: string) =>
  shell(`${psql(url, `COPY ${table} TO STDOUT`)} | ${psql(url, `COPY ${into} FROM STDIN`)}`);

type MysqlAddress = { readonly host: string; readonly port: number; readonly user: string; readonly password: string };

/** One statement by the `mariadb` client, which may read local files. */
export const mysqlClient = ({ host, port, user, password }: MysqlAddress, database: string, sql: string) =>
  `MYSQL_PWD='${password}' mariadb --no-defaults --local-infile=1 -h ${host} -P ${port} -u ${user} ${database} -e "${sql}"`;

/** pgloader's own best: a load of one database's only table, with its index, without foreign keys. */
export async function pgloader(from: MysqlAddress, database: string, to: string, folder: string): Promise<void> {
  const file = join(folder, 'pgloader.load');
  const url = `mysql://${from.user}:${from.password}@${from.host}:${from.port}/${database}`;
  await writeFile(
    file,
    `LOAD DATABASE FROM ${url} INTO ${to.replace(/^postgres:/, 'postgresql:')}?sslmode=disable
     WITH include drop, create tables, create indexes, no foreign keys, reset no sequences, workers = 2, concurrency = 1
     INCLUDING ONLY TABLE NAMES MATCHING 'big';`,
  );
  await shell(`pgloader --quiet ${file}`);
}
