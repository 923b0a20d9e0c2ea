import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Batch, BytesBatch, Target } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import type { Row } from '../../connectors/types.ts';
import { type FaultProxy, startProxy } from '../../servers/proxy.ts';
import { createDatabase, type TestDatabase } from '../servers/shared.ts';
import {
  column,
  connect,
  contents,
  describeVersions,
  give,
  leftovers,
  plainWork,
  quoted,
  type Version,
  visible,
} from './postgres-works.ts';
import { chunk, codeOf, type TargetSubject, testTarget, writeOptions } from './target.ts';

/** COPY text of `id`, `v`, without frames and in two pieces cut within a row. */
function textBatches(rows: readonly Row[]): Batch[] {
  const text = Buffer.from(rows.map(([id, v]) => `${id}\t${v ?? '\\N'}\n`).join(''));
  const cut = text.length >> 1;
  const piece = (bytes: Uint8Array, last?: number): BytesBatch => ({ kind: 'bytes', bytes: [bytes], rows: last });
  return [piece(text.subarray(0, cut)), piece(text.subarray(cut), rows.length)];
}

async function subject(format: 'rows' | 'pg-text', version: Version): Promise<TargetSubject> {
  const database = await createDatabase(undefined, { version });
  const client = await connect(database);
  return {
    open: () => openTarget({ url: database.url }),
    work: (over) => plainWork({ writeFormat: format, readFormat: format, ...over }),
    batches: (_, rows) =>
      give(format === 'pg-text' ? textBatches(rows) : rows.length === 0 ? [] : [{ kind: 'rows', rows }]),
    visible: (work) => visible(client, work),
    leftovers: () => leftovers(client),
    async [Symbol.asyncDispose]() {
      await client.end();
      await database.drop();
    },
  };
}

await describeVersions('', (version) => {
  testTarget('rows', () => subject('rows', version));
  testTarget('COPY text', () => subject('pg-text', version));
  describe('beyond what every target does', () => writing(version));
});

function writing(version: Version) {
  let to: TestDatabase;
  let b: pg.Client;
  let target: Target;
  beforeAll(async () => {
    to = await createDatabase(undefined, { version });
    b = await connect(to);
    target = openTarget({ url: to.url });
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    await b?.end();
    await to?.drop();
  });

  test('bad rows of the rows lane are set aside one by one, the others kept', async () => {
    const work = plainWork({
      columns: [
        column('id', 'smallint', { kind: 'int32' }, false),
        column('v', 'character varying(3)', { kind: 'text' }, true),
      ],
      key: [],
    });
    const rows: Row[] = Array.from({ length: 1000 }, (_, i) => [i, 'abc']);
    rows[17] = [70_000, 'abc'];
    rows[500] = [500, 'too long'];
    rows[501] = [501, 'a\0'];
    rows[999] = [null, 'abc'];
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    const bad: string[] = [];
    const counts = await target.write(
      work,
      claim,
      give([
        { kind: 'rows', rows: rows.slice(0, 400) },
        { kind: 'rows', rows: rows.slice(400) },
      ]),
      writeOptions({
        quarantine: async (found) => {
          for (const one of found) bad.push(`${one.ordinal} ${one.native} ${one.row === rows[one.ordinal]}`);
        },
      }),
    );
    expect(bad).toEqual(['17 22003 true', '500 22001 true', '501 22021 true', '999 23502 true']);
    expect(counts).toMatchObject({ read: 1000, written: 996, quarantined: 4 });
    const again = await target.claim(work, chunk(2));
    const refuse = target.write(
      work,
      again,
      give([{ kind: 'rows', rows }]),
      writeOptions({ quarantine: async () => Promise.reject(new Error('too many')) }),
    );
    await expect(refuse).rejects.toThrow('too many');
    await target.finish(work);
    await target.publish([work], []);
    expect((await visible(b, work))?.length).toBe(996);
  });

  test('a stream that breaks off, or says another number, is rolled back', async () => {
    const work = plainWork({ writeFormat: 'pg-text' });
    await target.prepare(work);
    const bytes = [Buffer.from('1\ta\n2\tb\n')];
    for (const said of [undefined, 1, 3]) {
      const claim = await target.claim(work, chunk(1));
      expect(
        await codeOf(target.write(work, claim, give([{ kind: 'bytes', bytes, rows: said }]), writeOptions())),
      ).toBe('BOOKS_UNBALANCED');
    }
    const claim = await target.claim(work, chunk(1));
    expect(
      await codeOf(
        target.write(work, claim, give([{ kind: 'bytes', bytes: [Buffer.from('x\ty\n')], rows: 1 }]), writeOptions()),
      ),
    ).toBe('VALUE_REFUSED');
    expect((await Array.fromAsync(target.checkpoints(work))).map((one) => one.done)).toEqual([false]);
    await target.discard(work);
  });

  test('a chunk with other bounds than it was begun with is refused', async () => {
    const work = plainWork();
    await target.prepare(work);
    await target.claim(work, chunk(1));
    expect(await codeOf(target.claim(work, { ...chunk(1), bounds: { upto: ['other'] } }))).toBe('INTERNAL');
    await target.discard(work);
  });

  test('a writer stopped between checkpoint and commit is ended by the next claim', async () => {
    const work = plainWork();
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    // The same statements a stopped writer has behind it, from a session that says nothing more.
    const stopped = await connect(to);
    stopped.on('error', () => {});
    const key = `installation = 'here' AND run = '${work.run}'`;
    await stopped.query(
      `UPDATE _godwit.chunk SET pid = pg_backend_pid(), backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) WHERE ${key}`,
    );
    await stopped.query(`BEGIN; UPDATE _godwit.chunk SET done = true WHERE ${key}`);
    const next = await target.claim(work, chunk(1));
    expect(next.done).toBeUndefined();
    expect(next.epoch).toBe(claim.epoch + 1);
    await expect(stopped.query('COMMIT')).rejects.toThrow();
    await stopped.end().catch(() => {});
    await target.discard(work);
  });

  test('the checkpoint itself is fenced: an epoch that moved on under a writer rolls it back', async () => {
    const work = plainWork();
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    async function* overtaken(): AsyncGenerator<Batch> {
      yield { kind: 'rows', rows: [[1, 'stale']] };
      await b.query(`UPDATE _godwit.chunk SET epoch = epoch + 1, pid = NULL WHERE run = $1`, [work.run]);
    }
    expect(await codeOf(target.write(work, claim, overtaken(), writeOptions()))).toBe('FENCED');
    await target.finish(work);
    await target.publish([work], []);
    expect(await visible(b, work)).toEqual([]);
  });

  test('a broken key fails finish and leaves the staging', async () => {
    const work = plainWork();
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    await target.write(
      work,
      claim,
      give([
        {
          kind: 'rows',
          rows: [
            [1, 'a'],
            [1, 'b'],
          ],
        },
      ]),
      writeOptions(),
    );
    expect(await codeOf(target.finish(work))).toBe('CONSTRAINT_BROKEN');
    expect(await codeOf(target.publish([work], []))).toBe('CONSTRAINT_BROKEN');
    await target.discard(work);
  });

  describe('the answer to COMMIT is lost', () => {
    let proxy: FaultProxy;
    let far: Target;
    const slow = `CREATE FUNCTION public.nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'`;
    beforeAll(async () => {
      const url = new URL(to.url);
      proxy = await startProxy({ host: url.hostname, port: Number(url.port) });
      url.port = String(proxy.port);
      far = openTarget({ url: url.href });
      await b.query(slow);
    });
    afterAll(async () => {
      await far?.[Symbol.asyncDispose]();
      await proxy?.stop();
      await b.query('DROP FUNCTION public.nap() CASCADE');
    });

    /** Deferred triggers make every COMMIT over the table take a second. */
    const slowCommit = (table: string, when = '') =>
      b.query(
        `CREATE CONSTRAINT TRIGGER nap AFTER INSERT OR UPDATE ON ${table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW ${when} EXECUTE FUNCTION public.nap()`,
      );
    const committing = async () => {
      const asked = `SELECT 1 AS x FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()`;
      while ((await contents(b, asked)).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const row = () => give([{ kind: 'rows', rows: [[1, 'a']] }]);

    test('after it came through: the checkpoint says so, and the write succeeds', async () => {
      const work = plainWork();
      await far.prepare(work);
      const claim = await far.claim(work, chunk(1));
      await slowCommit('_godwit.chunk', 'WHEN (NEW.done)');
      try {
        const written = far.write(work, claim, row(), writeOptions());
        await committing();
        proxy.afterBytes(1, () => proxy.cut(), 'toClient');
        expect(await written).toMatchObject({ read: 1, written: 1 });
        expect((await target.claim(work, chunk(1))).done).toMatchObject({ written: 1 });
      } finally {
        await b.query('DROP TRIGGER nap ON _godwit.chunk');
      }
      await target.finish(work);
      await target.publish([work], []);
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });

    test('before it came through: nothing is assumed, and the next attempt writes once', async () => {
      const work = plainWork();
      await far.prepare(work);
      const claim = await far.claim(work, chunk(1));
      await slowCommit('_godwit.chunk', 'WHEN (NEW.done)');
      try {
        const written = codeOf(far.write(work, claim, row(), writeOptions()));
        await committing();
        proxy.cut();
        expect(await written).toBe('CONNECTION_FAILED');
      } finally {
        await b.query('DROP TRIGGER nap ON _godwit.chunk');
      }
      const again = await far.claim(work, chunk(1));
      expect(again.done).toBeUndefined();
      await far.write(work, again, row(), writeOptions());
      await target.finish(work);
      await target.publish([work], []);
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });

    test('of a swap: asked again, it finds its marker', async () => {
      const work = plainWork();
      await far.prepare(work);
      await far.write(work, await far.claim(work, chunk(1)), row(), writeOptions());
      await far.finish(work);
      await slowCommit('_godwit.owner');
      try {
        const lost = codeOf(far.publish([work], []));
        await committing();
        proxy.afterBytes(1, () => proxy.cut(), 'toClient');
        expect(await lost).toBe('CONNECTION_FAILED');
      } finally {
        await b.query('DROP TRIGGER nap ON _godwit.owner');
      }
      const oid = await contents(b, `SELECT '${quoted(work.name)}'::regclass::oid AS x`);
      expect((await far.publish([work], [])).notes).toEqual([]);
      expect(await contents(b, `SELECT '${quoted(work.name)}'::regclass::oid AS x`)).toEqual(oid);
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });

    test('a swap that hangs with its locks is ended by the next one', async () => {
      const work = plainWork();
      await far.prepare(work);
      await far.write(work, await far.claim(work, chunk(1)), row(), writeOptions());
      await far.finish(work);
      await slowCommit('_godwit.owner');
      const hanging = codeOf(far.publish([work], []));
      await committing();
      // The worker stands still: its COMMIT is on the way and nobody hears the answer.
      proxy.pause();
      const ended = target.publish([work], []);
      await ended;
      await b.query('DROP TRIGGER nap ON _godwit.owner');
      proxy.resume();
      await hanging;
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });
  });

  test('the plan refuses what the login may not do, and types the server does not have', async () => {
    const role = `r_${randomUUID().slice(0, 8)}`;
    await b.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'; CREATE SCHEMA closed`);
    const url = new URL(to.url);
    url.username = role;
    url.password = 'secret';
    await using limited = openTarget({ url: url.href });
    const refused = await limited.refusals(plainWork({ name: { schema: 'closed', name: 't' } }));
    expect(refused.map((error) => error.code)).toEqual(['PRIVILEGE_MISSING', 'PRIVILEGE_MISSING']);
    expect((await limited.check()).filter((one) => one.outcome === 'fail').map((one) => one.name)).toEqual([
      'privileges',
    ]);
    const strange = plainWork({
      columns: [
        column('id', 'integer', { kind: 'int32' }, false),
        column('g', 'public.geometry(Point,4326)', { kind: 'native' }, true),
      ],
    });
    expect((await target.refusals(strange)).map((error) => error.code)).toEqual(['TYPE_REFUSED']);
    await b.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });
}
