/**
 * Reads of the API with many runs stored: p50 and p99 at a steady rate. `node bench/api.ts [runs] [per second] [seconds]`.
 * The promise: under 100 ms at p99 with 100,000 runs at 500 requests a second.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { startApi } from '../api/server.ts';
import { readConfig } from '../config.ts';
import { openDatabase } from '../db/open.ts';
import { startPostgres } from '../servers/postgres.ts';
import { drive, fillRuns, readPaths } from './api-load.ts';

const [runs = 100_000, perSecond = 500, seconds = 10] = process.argv.slice(2).map(Number);
await using stack = new AsyncDisposableStack();
const home = await mkdtemp(join(tmpdir(), 'godwit-bench-api-'));
stack.defer(() => rm(home, { recursive: true, force: true }));
const server = stack.use(await startPostgres());
const database = stack.use(openDatabase(server.url));
await database.migrate();
const began = performance.now();
await fillRuns(database, runs);
console.log(`${runs} runs filled in ${((performance.now() - began) / 1000).toFixed(1)} s`);
const config = { ...readConfig({ GODWIT_HOME: home }), port: 0 };
const api = stack.use(await startApi({ config, database, log: pino({ level: 'silent' }) }));
const paths = await readPaths(database);
await drive({ url: api.url, paths, perSecond: 100, seconds: 2 });
for (const [kind, some] of [
  ['mixed reads', paths],
  ['run lists', paths.filter((path) => /runs\?|runs$/.test(path))],
] as const) {
  const before = process.threadCpuUsage();
  const { requests, failed, p50, p99, max } = await drive({ url: api.url, paths: some, perSecond, seconds });
  const { user, system } = process.threadCpuUsage(before);
  const cpu = ((user + system) / 1000 / requests).toFixed(2);
  const times = `p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`;
  console.log(
    `${kind}: ${requests} requests at ${perSecond}/s: ${times}, ${failed} failed; CPU of the API ${cpu} ms each`,
  );
  if (failed > 0 || p99 > 100) process.exitCode = 1;
}
