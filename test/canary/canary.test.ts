import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openKeyring } from '../../secrets/keyring.ts';
import { createSealer } from '../../secrets/seal.ts';
import { createDatabase, through } from '../fault/addresses.ts';
import { type Installation, startInstallation } from '../fault/installation.ts';
import { apply, type Mapping, over, start, story } from '../fault/job.ts';
import { query } from '../fault/oracle.ts';
import { histories } from './histories.ts';
import { foundIn, type Hit, type Needles, searchDatabase, searchFiles } from './search.ts';

/** Long enough that no compression or chance hides or makes them. */
const secret = (name: string) => `canary-${name}-${randomBytes(12).toString('hex')}`;
const needles: Needles = {
  'the password': secret('password'),
  'a wrong password': secret('wrong'),
  'a value that is moved': secret('value'),
  'a key': secret('key'),
  'a value that is set aside': secret('quarantined'),
  'a value that breaks a constraint': secret('constraint'),
  'a value that does not fit': secret('misfit'),
};
const value = (name: keyof typeof needles): string => needles[name] as string;

let here: Installation;
let source: string;
let target: string;
const ended: { job: string; status: string; story: string }[] = [];

beforeAll(async () => {
  here = await startInstallation({ workers: 1, env: { GODWIT_LOG: 'trace' } });
  source = await createDatabase(here.source, 'canary');
  target = await createDatabase(here.target, 'canary');
  const owner = `CREATE ROLE mover LOGIN SUPERUSER PASSWORD '${value('the password')}'`;
  await query(here.source.url, owner);
  await query(here.target.url, owner);
  await query(
    source,
    `CREATE TABLE public.fine (id text PRIMARY KEY, note text);
     INSERT INTO public.fine SELECT 'k' || i, 'n' FROM generate_series(1, 3000) i;
     INSERT INTO public.fine VALUES ('${value('a key')}', '${value('a value that is moved')}');
     CREATE TABLE public.aside (id int PRIMARY KEY, at timestamptz, note text);
     INSERT INTO public.aside VALUES (1, now(), 'a'), (2, 'infinity', '${value('a value that is set aside')}');
     CREATE TABLE public.twice (id int, name text NOT NULL);
     INSERT INTO public.twice VALUES (1, '${value('a value that breaks a constraint')}'), (2, '${value('a value that breaks a constraint')}');
     CREATE TABLE public.checked (id int PRIMARY KEY, name text);
     INSERT INTO public.checked VALUES (1, '${value('a value that breaks a constraint')}');
     CREATE TABLE public.misfit (id int PRIMARY KEY, at timestamptz, note text);
     INSERT INTO public.misfit VALUES (1, 'infinity', '${value('a value that does not fit')}')`,
  );
});
afterAll(async () => {
  await here?.[Symbol.asyncDispose]();
});

const login = (url: string, proxy: { port: number }, password = value('the password')) => {
  const changed = new URL(through(proxy, url));
  changed.username = 'mover';
  changed.password = password;
  return changed.href;
};

async function run(name: string, more: Record<string, unknown>, seconds = 60): Promise<void> {
  const path = join(here.files, name);
  mkdirSync(path, { recursive: true });
  const mapping: Mapping = {
    name,
    source: { source_type: 'pgsql', url: login(source, here.sourceProxy) },
    destination: {
      copy: { destination_type: 'pgsql', url: login(target, here.targetProxy), schema: name },
      lake: { destination_type: 'files', path, schema: 'lake', format: 'parquet' },
    },
    ...more,
  } as Mapping;
  await apply(here, mapping);
  const { id } = await start(here, name);
  const { status } = await over(here, id, seconds);
  ended.push({ job: name, status, story: await story(here, id) });
}

test('jobs that succeed, set rows aside, break constraints, do not fit, and cannot log in', async () => {
  const replace = (table_name: string, more: object = {}) => ({
    table_name: `public.${table_name}`,
    mode: 'replace',
    ...more,
  });
  await run('good', { tables: [replace('fine'), replace('fine', { targets: ['lake'] })].slice(0, 1) });
  await run('set_aside', {
    tables: [replace('aside', { on_misfit: 'quarantine', max_quarantined: 10, targets: ['lake'] })],
  });
  await query(
    target,
    `CREATE SCHEMA broken; CREATE TABLE broken.checked (migration_snapshot_date timestamptz, id int, name text CHECK (length(name) < 5));
     INSERT INTO broken.checked VALUES (now(), 0, 'a')`,
  );
  await run('broken', {
    tables: [
      replace('twice', { primary_key: 'name', targets: ['copy'] }),
      { table_name: 'public.checked', mode: 'dumping', existing: 'adopt', targets: ['copy'] },
    ],
  });
  await run('misfit', { tables: [replace('misfit', { targets: ['lake'] })] });
  await run('no_login', {
    source: { source_type: 'pgsql', url: login(source, here.sourceProxy, value('a wrong password')) },
    tables: [replace('fine')],
  });
  expect(
    Object.fromEntries(ended.map(({ job, status }) => [job, status])),
    ended.map((one) => one.story).join('\n\n'),
  ).toEqual({
    good: 'succeeded',
    set_aside: 'succeeded',
    broken: 'failed',
    misfit: 'failed',
    no_login: 'failed',
  });
  // They are kept all the same: sealed.
  const sealer = createSealer(openKeyring({ home: here.folder, key: here.env.GODWIT_KEY as string }));
  const kept = await query<{ content: Buffer }>(here.metadata.url, 'SELECT content FROM godwit.quarantine');
  const opened = JSON.stringify(kept.map(({ content }) => sealer.openJson(content, 'quarantined row')));
  for (const name of ['a value that is set aside', 'a value that does not fit']) expect(opened).toContain(value(name));
});

test('the search finds what is there', async () => {
  expect(await searchDatabase(source, needles)).not.toEqual([]);
  expect(foundIn('x', Buffer.from(`?${value('the password')}`).toString('base64'), needles)).toEqual([
    'the password in x',
  ]);
  expect(foundIn('x', Buffer.from(`ab${value('a key')}c`).toString('hex'), needles)).toEqual(['a key in x']);
});

test("no secret stands in Godwit's own tables, in any column", async () => {
  expect(await searchDatabase(here.metadata.url, needles)).toEqual([]);
});

test("no secret stands in the files of Godwit's own PostgreSQL (tables, WAL, log), nor of the Temporal server", async () => {
  await query(here.metadata.url, 'CHECKPOINT');
  expect(searchFiles(here.metadata.dir, needles)).toEqual([]);
  const temporal = (path: string) => !/temporal\.(db|log)/.test(path);
  expect(searchFiles(here.folder, needles, temporal)).toEqual([]);
});

test('no secret stands in the logs of API and workers, nor in what they left on disk', async () => {
  const logs = [here.api.logFile, ...here.workers.logFiles];
  expect(logs.flatMap((log) => foundIn(log, readFileSync(log), needles))).toEqual([]);
  expect(logs.some((log) => readFileSync(log).length > 200)).toBe(true);
  // The lake holds the rows: that is what it is for.
  expect(searchFiles(here.folder, needles, (path) => path.startsWith(here.files))).toEqual([]);
});

test("no secret stands in Temporal's histories, neither as stored nor opened with the key", async () => {
  const all = await histories(here);
  expect(all.length).toBeGreaterThan(4);
  expect(all.reduce((sum, one) => sum + one.payloads, 0)).toBeGreaterThan(20);
  const hits: Hit[] = [];
  for (const { id, raw, decoded } of all)
    hits.push(...foundIn(`history of ${id}`, raw, needles), ...foundIn(`opened history of ${id}`, decoded, needles));
  expect(hits).toEqual([]);
  // Encrypted at all: what everybody may know is not readable either.
  expect(all.every(({ raw }) => !raw.includes('{"runId"'))).toBe(true);
});

test('no secret stands in any answer of the API', async () => {
  const api = (path: string) => fetch(here.api.url + path, { signal: AbortSignal.timeout(20_000) });
  const { paths } = (await (await api('/api/openapi.json')).json()) as { paths: Record<string, { get?: unknown }> };
  const runs = await query<{ id: string; job: string; number: number }>(
    here.metadata.url,
    'SELECT r.id, j.name AS job, r.number FROM godwit.runs r JOIN godwit.jobs j ON j.id = r.job_id',
  );
  const names = async (table: string) =>
    (await query<{ name: string }>(here.metadata.url, `SELECT name FROM godwit.${table}`)).map((row) => row.name);
  const endpoints = {
    connections: await names('connections'),
    sources: await names('sources'),
    targets: await names('targets'),
  };
  const asked: string[] = [];
  const hits: Hit[] = [];
  for (const [path, { get }] of Object.entries(paths)) {
    if (!get || path.includes('/quarantine')) continue;
    const options: Record<string, string>[] = [];
    if (!path.includes('{')) options.push({});
    else if (path.startsWith('/api/runs/')) for (const run of runs) options.push({ first: run.id, rest: '1' });
    else if (path.startsWith('/api/jobs/'))
      for (const run of runs) options.push({ first: run.job, rest: String(run.number) });
    else {
      const kind = /^\/api\/(\w+)/.exec(path)?.[1] as keyof typeof endpoints;
      for (const name of endpoints[kind] ?? []) options.push({ first: name, rest: 'public.fine' });
    }
    for (const option of options) {
      let nth = 0;
      const filled = path.replace(/\{[^}]+\}/g, () =>
        encodeURIComponent((nth++ === 0 ? option.first : option.rest) ?? ''),
      );
      const answer = await api(filled);
      const body = `${JSON.stringify([...answer.headers])}${await answer.text()}`;
      asked.push(`${answer.status} ${filled}`);
      hits.push(...foundIn(filled, body, needles));
    }
  }
  for (const path of ['/metrics', '/healthz', '/readyz'])
    hits.push(...foundIn(path, await (await api(path)).text(), needles));
  expect(hits).toEqual([]);
  expect(asked.filter((line) => line.startsWith('200')).length, asked.join('\n')).toBeGreaterThan(15);
  expect(
    asked.filter((line) => line.startsWith('5')),
    asked.join('\n'),
  ).toEqual([]);
});

test('no secret stands in the answers that tests and browsing give', async () => {
  const post = (path: string) =>
    fetch(here.api.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
      signal: AbortSignal.timeout(60_000),
    });
  const hits: Hit[] = [];
  for (const job of ['good', 'no_login']) {
    for (const path of [
      `/api/sources/${encodeURIComponent(`${job}/source`)}/test`,
      `/api/targets/${encodeURIComponent(`${job}/copy`)}/test`,
      `/api/jobs/${job}/plan`,
    ]) {
      const answer = await post(path);
      hits.push(...foundIn(path, await answer.text(), needles));
    }
  }
  expect(hits).toEqual([]);
  expect(await searchDatabase(here.metadata.url, needles)).toEqual([]);
});
