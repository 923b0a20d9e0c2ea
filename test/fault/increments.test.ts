/**
 * Increments while a writer goes on and workers are killed. Nothing is read twice to be safe (`recheck` is none), so that what
 * a kill or a late commit would lose stays lost: transactions stay open across runs with the time they began as bookmark.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FaultPoint } from '../../faults.ts';
import { missing } from '../servers/shared.ts';
import { createDatabase, through } from './addresses.ts';
import { type Installation, startInstallation } from './installation.ts';
import { apply, over, start, story } from './job.ts';
import type { Kind, Place, Running } from './kinds/kind.ts';
import { kinds } from './kinds/kinds.ts';
import { type Content, compareExact, contentOf, query } from './oracle.ts';
import type { Random } from './random.ts';
import { atLength, onlyKind } from './settings.ts';
import { digest, keyText, type ShopTable } from './shop.ts';
import { report } from './verify.ts';

const live: ShopTable = {
  name: 'live',
  columns: { id: 'int', rev: 'int', at: 'instant', note: 'text' },
  key: ['id'],
};
const rows = 8_000;
const chosen = kinds.filter(({ name }) => (onlyKind ? name === onlyKind : name !== 'mysql' && name !== 'files'));
const server = { mongodb: 'mongodb', mariadb: 'mariadb', mysql: 'mysql' } as const;
const writing: readonly FaultPoint[] = ['after-read', 'before-commit', 'after-commit', 'before-answer'];

describe('increments with kills to', async () => {
  const there: Kind[] = [];
  for (const kind of chosen) {
    const name = server[kind.name as keyof typeof server];
    if (name === undefined || !(await missing(name))) there.push(kind);
  }
  let installation: Installation;
  const targets = new Map<Kind, Running>();
  beforeAll(async () => {
    installation = await startInstallation({ workers: 3 });
    for (const kind of there) targets.set(kind, await kind.start(installation));
  });
  afterAll(async () => {
    for (const target of targets.values()) await target[Symbol.asyncDispose]();
    await installation?.[Symbol.asyncDispose]();
  });

  for (const kind of there) {
    // Mirroring does all that syncing does; to PostgreSQL, and at length, both.
    for (const mode of kind.name === 'postgres' || atLength
      ? (['syncing', 'mirroring'] as const)
      : (['mirroring'] as const)) {
      test(`${kind.name}, ${mode}: nothing lost, doubled or changed`, () =>
        increments(installation, kind, targets.get(kind) as Running, mode));
    }
  }
});

async function increments(here: Installation, kind: Kind, target: Running, mode: 'syncing' | 'mirroring') {
  const name = `${kind.name}_${mode}`;
  const random = here.random.fork(name);
  const place = await target.place(mode);
  const source = await createDatabase(here.source, name);
  await query(source, `CREATE SCHEMA shop`);
  await query(source, `CREATE TABLE shop.live (id bigint PRIMARY KEY, rev bigint, at timestamptz, note text)`);
  await query(
    source,
    `INSERT INTO shop.live SELECT i, 0, timestamptz '2024-01-01' + i * interval '1 s', repeat(md5(i::text), 8) FROM generate_series(1, ${rows}) i`,
  );
  await query(source, 'CREATE INDEX ON shop.live (at)');
  await query(source, 'ANALYZE shop.live');
  await apply(here, {
    name,
    source: { source_type: 'pgsql', url: through(here.sourceProxy, source) },
    destination: { copy: place.settings },
    tables: [{ table_name: 'shop.live', mode, bookmark: 'at', strict: true, recheck: { minutes: 0, keys: 0 } }],
  });
  const before = here.workers.kills;
  let committed = 0;
  {
    await using writer = startWriter(source, random.fork('writer'), mode === 'mirroring');
    await once(here, name);
    for (let round = 0; round < 4; round++) {
      const point = writing[round] as FaultPoint;
      here.workers.arm(point, 'SIGKILL');
      await once(here, name);
      here.workers.disarm();
    }
    committed = writer.committed;
  }
  await once(here, name);
  const verdict = compareExact(await contentOfSource(source), await place.content(live));
  const last = await once(here, name);
  report(`increments, ${mode} to ${kind.name}`, {
    kills: here.workers.kills - before,
    writes: committed,
    ...verdict,
  });
  expect(verdict).toEqual({ lost: 0, doubled: 0, changed: 0 });
  expect(last.written, 'nothing new is nothing written').toBe(0);
  expect(here.workers.kills - before).toBeGreaterThan(0);
  await leavesNothing(place);
}

async function once(here: Installation, job: string): Promise<{ readonly written: number }> {
  const run = await start(here, job);
  const ended = await over(here, run.id, 120);
  expect(ended.status, await story(here, run.id)).toBe('succeeded');
  const [counts] = await query<{ written: string }>(
    here.metadata.url,
    'SELECT sum(rows_written) + sum(rows_deleted) AS written FROM godwit.run_tables WHERE run_id = $1',
    [run.id],
  );
  return { written: Number(counts?.written) };
}

const contentOfSource = async (source: string): Promise<Content> =>
  contentOf(await query(source, `SELECT ${keyText(live)} AS key, ${digest(live)} AS hash FROM shop.live`), true);

async function leavesNothing(place: Place): Promise<void> {
  expect((await place.idle?.()) ?? []).toEqual([]);
}

/** Three writers: two that are quick, and one whose transactions stay open for up to three seconds. */
function startWriter(source: string, random: Random, deletes: boolean) {
  let over = false;
  let committed = 0;
  let next = rows;
  const work = async (held: number, own: Random) => {
    const client = new pg.Client({ connectionString: source });
    client.on('error', () => {});
    await client.connect();
    while (!over) {
      await client.query('BEGIN');
      for (let i = 0; i < 5; i++) {
        const id = own.between(1, next);
        if (own.chance(0.4)) {
          next++;
          await client.query('INSERT INTO shop.live VALUES ($1, 0, now(), md5($2))', [next, String(own.next())]);
        } else if (deletes && own.chance(0.3)) {
          await client.query(
            'DELETE FROM shop.live WHERE id = (SELECT id FROM shop.live WHERE id = $1 FOR UPDATE SKIP LOCKED)',
            [id],
          );
        } else {
          await client.query(
            'UPDATE shop.live SET rev = rev + 1, at = now(), note = md5($2) WHERE id = (SELECT id FROM shop.live WHERE id = $1 FOR UPDATE SKIP LOCKED)',
            [id, String(own.next())],
          );
        }
      }
      if (held > 0) await sleep(own.between(0, held));
      await client.query('COMMIT');
      committed++;
      // Some dozens a second: what is asked is that none is missed, not how many there are.
      await sleep(30);
    }
    await client.end();
  };
  const workers = [0, 0, 3_000].map((held, i) => work(held, random.fork(`writer ${i}`)));
  return {
    get committed() {
      return committed;
    },
    async [Symbol.asyncDispose]() {
      over = true;
      await Promise.all(workers);
    },
  };
}
