/**
 * An attempt that is stopped in the midst of its inserts and goes on when a newer one has done the chunk: it must neither
 * add, nor double, nor overwrite. And a run that is killed anywhere ends as if it had not been.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Db, MongoClient } from 'mongodb';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Chunk, Target, Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/mongodb/target.ts';
import type { Row } from '../../connectors/types.ts';
import { GodwitError } from '../../errors.ts';
import { waitUntil } from '../../servers/child.ts';
import { type FaultProxy, startProxy } from '../../servers/proxy.ts';
import { createMongoDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { armed as armedIn, type Child, startChild } from './child.ts';
import type { ChildArgument } from './mongodb-child.ts';
import { connect, give, leftovers, names, plainWork, rowsOfAll, visible } from './mongodb-works.ts';
import { codeOf, writeOptions } from './target.ts';

const stages = ['before finish', 'after finish', 'after publish', 'after discard'] as const;
type Stage = (typeof stages)[number];

const big = 'x'.repeat(3 * 1024 * 1024);
const keys = (id: number): Chunk => ({ id, kind: 'keys', bounds: { upto: [id] }, rows: 3 });
const all: Chunk = { id: 1, kind: 'all', bounds: null, rows: 3 };

/** What the old attempt read. Since then the source has changed 2, lost 3 and got 4. */
const before: Row[] = [1, 2, 3].map((id) => [id, `${id} before ${big}`]);
const after: Row[] = [1, 2, 4].map((id) => [id, `${id} after`]);
const others: Row[] = [[50, 'of another chunk']];

describe.skipIf(await missing('mongodb'))('MongoDB as a target, overtaken', () => {
  let database: TestDatabase;
  let client: MongoClient;
  /** Of this test alone. */
  let db: Db;
  let target: Target;
  let folder: string;
  let proxy: FaultProxy;
  beforeAll(async () => {
    database = await createMongoDatabase();
    client = await connect(database.url);
    target = openTarget({ url: database.url });
    folder = await mkdtemp(join(tmpdir(), 'godwit-mongodb-fence-'));
    const { hostname, port } = new URL(database.url);
    proxy = await startProxy({ host: hostname, port: Number(port || 27017) });
  });
  let number = 0;
  beforeEach(() => {
    db = client.db(`${database.name}_${++number}`);
  });
  afterEach(() => db.dropDatabase());
  afterAll(async () => {
    await proxy?.stop();
    await target?.[Symbol.asyncDispose]();
    await client?.close();
    await database?.drop();
    await rm(folder, { recursive: true, force: true });
  });

  const write = async (work: Work, chunk: Chunk, rows: readonly Row[]) => {
    const claim = await target.claim(work, chunk);
    await target.write(work, claim, give(rowsOfAll(rows)), writeOptions());
  };

  /** The newer attempt, until `stage`; the old one goes on; then the rest. */
  async function overtake(work: Work, chunk: Chunk, stage: Stage, goOn: () => Promise<string>): Promise<void> {
    await write(work, chunk, after);
    const rest = chunk.kind === 'all' ? [] : others;
    if (rest.length > 0) await write(work, keys(2), rest);
    if (stage === 'after finish' || stage === 'after publish') await target.finish(work);
    if (stage === 'after publish') await target.publish([work], []);
    if (stage === 'after discard') await target.discard(work);
    expect(await goOn()).toBe('FENCED');
    if (stage !== 'after discard') {
      await target.finish(work);
      await target.publish([work], []);
      expect(await visible(db, work)).toEqual([...after, ...rest]);
    } else {
      expect(await names(db)).not.toContain(work.name.name);
    }
    expect(await leftovers(db)).toEqual([]);
  }

  const start = (argument: ChildArgument, faults: string): Child =>
    startChild('mongodb-child.ts', folder, argument, faults);
  const armed = (point: string, signal: string) => armedIn(folder, point, signal);

  for (const point of ['before-commit', 'between-checkpoint-and-commit'] as const) {
    for (const chunk of [keys(1), all]) {
      test.each(stages)(`a worker stopped ${point} in a chunk of ${chunk.kind} wakes up %s`, async (stage) => {
        const work = plainWork(db.databaseName);
        const faults = await armed(point, 'SIGSTOP');
        const argument = { url: database.url, work, chunks: [{ chunk, rows: before }], whole: false };
        const { child, said } = start(argument, faults);
        try {
          expect(await waitUntil(() => !existsSync(join(faults, point)), 30_000)).toBe(true);
          await overtake(work, chunk, stage, () => {
            child.kill('SIGCONT');
            return said;
          });
        } finally {
          child.kill('SIGKILL');
        }
      });
    }
  }

  test.each(stages)('an insert that was on the wire arrives %s', (stage) => arrivesLate(stage, false));

  // Its worker slept past the heartbeat, and is told to stop as soon as it wakes.
  test.each(stages)('an insert that was on the wire arrives %s, its writer told to stop', (stage) =>
    arrivesLate(stage, true),
  );

  async function arrivesLate(stage: Stage, toldToStop: boolean): Promise<void> {
    const work = plainWork(db.databaseName);
    const url = new URL(database.url);
    url.host = `${proxy.host}:${proxy.port}`;
    // Else the members of a set would be asked for at their own addresses.
    url.searchParams.set('directConnection', 'true');
    await using slow = openTarget({ url: url.href });
    await slow.prepare(work);
    const claim = await slow.claim(work, keys(1));
    const held = Promise.withResolvers<void>();
    // Nine megabytes in two inserts: held within the second one.
    proxy.afterBytes(
      8 * 1024 * 1024,
      () => {
        proxy.pause();
        held.resolve();
      },
      'toServer',
    );
    const stop = new AbortController();
    const options = { ...writeOptions(), signal: stop.signal };
    const said = codeOf(slow.write(work, claim, give(rowsOfAll(before)), options));
    await held.promise;
    try {
      await overtake(work, keys(1), stage, () => {
        if (toldToStop) stop.abort(new GodwitError('FENCED', 'told to stop'));
        proxy.resume();
        return said;
      });
    } finally {
      proxy.resume();
    }
  }

  test.each(['before-commit', 'between-checkpoint-and-commit', 'after-commit', 'in-swap', 'after-swap'])(
    'a run killed %s goes on where it was',
    async (point) => {
      const first = plainWork(db.databaseName);
      const chunks = [
        { chunk: keys(1), rows: after },
        { chunk: keys(2), rows: others },
      ];
      const argument = { url: database.url, chunks, whole: true };
      const old: Row[] = [[9, 'old']];
      expect(await start({ ...argument, work: first, chunks: [{ chunk: keys(1), rows: old }] }, folder).said).toBe(
        'done',
      );
      const work = { ...first, run: `${first.run}-2` };
      expect(await start({ ...argument, work }, await armed(point, 'SIGKILL')).said).toBe('SIGKILL');
      expect(await visible(db, work)).toEqual(point === 'after-swap' ? [...after, ...others] : old);
      expect(await start({ ...argument, work }, folder).said).toBe('done');
      expect(await visible(db, work)).toEqual([...after, ...others]);
      expect(await leftovers(db)).toEqual([]);
    },
  );

  // Ten times over: what goes wrong with several at once does so one time in thirty.
  test.each(Array.from({ length: 10 }, (_, i) => i + 1))(
    'a publication whose answer was lost is recognised, also when somebody publishes at the same time: %s',
    async () => {
      const work = plainWork(db.databaseName);
      await target.prepare(work);
      await write(work, keys(1), after);
      await using other = openTarget({ url: database.url });
      const outcomes = await Promise.all([
        codeOf(target.publish([work], [])),
        codeOf(other.publish([work], [])),
        codeOf(target.publish([work], [])),
      ]);
      expect(outcomes.filter((code) => code !== 'no error' && code !== 'FENCED')).toEqual([]);
      await target.publish([work], []);
      expect(await visible(db, work)).toEqual(after);
      expect(await leftovers(db)).toEqual([]);
    },
  );

  test('many attempts of many chunks, each overtaken again, leave what the last ones read', async () => {
    const work = plainWork(db.databaseName);
    await target.prepare(work);
    const expected: Row[] = [];
    for (let id = 1; id <= 4; id++) {
      for (let attempt = 1; attempt <= id; attempt++) {
        const rows: Row[] = [0, 1, 2].filter((i) => i !== attempt % 3).map((i) => [id * 10 + i, `attempt ${attempt}`]);
        const claim = await target.claim(work, keys(id));
        async function* broken() {
          yield* rowsOfAll(rows);
          if (attempt < id) throw new Error('the source broke');
        }
        const end = target.write(work, claim, broken(), writeOptions());
        if (attempt < id) await expect(end).rejects.toThrow('the source broke');
        else {
          await end;
          expected.push(...rows);
        }
      }
    }
    await target.finish(work);
    await target.publish([work], []);
    expect(await visible(db, work)).toEqual(expected);
    expect(await leftovers(db)).toEqual([]);
  });
});
