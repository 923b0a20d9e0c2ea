import { spawn } from 'node:child_process';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Target, Work } from '../../connectors/contract.ts';
import { openLocal } from '../../connectors/files/local.ts';
import type { Manifest } from '../../connectors/files/manifest.ts';
import { openS3 } from '../../connectors/files/s3.ts';
import { parseSettings, type S3Settings, type Settings } from '../../connectors/files/settings.ts';
import type { Store } from '../../connectors/files/store.ts';
import { openTarget, targetOf } from '../../connectors/files/target.ts';
import { missing, sharedS3 } from '../servers/shared.ts';
import { chunk, fileWork, wholeRun, writeOptions, writeParts } from './files-fixture.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'godwit-files-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Place = { readonly settings: Settings; readonly store: Store; readonly target: Target };

async function localPlace(): Promise<Place> {
  const settings = parseSettings('files', { path: join(folder, randomUUID()) });
  const path = (settings as { path: string }).path;
  return {
    settings,
    store: await openLocal({ path, fileRoots: [folder] }),
    target: await openTarget(settings, { fileRoots: [folder] }),
  };
}

async function s3Place(): Promise<Place> {
  const { endpoint, region, accessKeyId, secretAccessKey, bucket } = await sharedS3();
  const settings = parseSettings('s3', {
    s3_bucket_name: bucket,
    prefix: 'the lake/é',
    endpoint,
    region,
    access_key_id: accessKeyId,
    secret_access_key: secretAccessKey,
  });
  return { settings, store: openS3(settings as S3Settings), target: await openTarget(settings, { fileRoots: [] }) };
}

const text = async (store: Store, key: string) => {
  const found = await store.get(key);
  return found && new TextDecoder().decode(found.bytes);
};

async function keysOf(store: Store, prefix = ''): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys.sort();
}

async function manifestOf(store: Store, work: Work): Promise<Manifest> {
  return JSON.parse((await text(store, `${work.name.schema}/${work.name.name}/_manifest.json`)) ?? 'null');
}

/**
 * What must hold after every publication, whatever happened on the way: the folder has exactly the manifest's parts, with
 * the sizes and hashes it says; nothing waits any more.
 */
async function expectPublished(store: Store, work: Work, lines: readonly string[]): Promise<void> {
  const manifest = await manifestOf(store, work);
  const table = `${work.name.schema}/${work.name.name}`;
  const visible = (await keysOf(store, `${table}/`)).filter((key) => !key.includes('/_'));
  expect(visible).toEqual(manifest.parts.map(({ path }) => `${table}/${path}`).sort());
  const found: string[] = [];
  for (const part of manifest.parts) {
    const bytes = (await store.get(`${table}/${part.path}`))!.bytes;
    expect(bytes.byteLength).toBe(part.bytes);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(part.sha256);
    found.push(...new TextDecoder().decode(bytes).split('\n').slice(0, -1));
  }
  expect(found.sort()).toEqual([...lines].sort());
  expect(manifest.rows).toBe(lines.length);
  expect(manifest.removing).toEqual([]);
  expect(await keysOf(store, '_godwit/')).toEqual([]);
}

const kinds = [
  { kind: 'a folder', skip: false, open: localPlace },
  { kind: 'S3', skip: await missing('s3'), open: s3Place },
] as const;

for (const { kind, skip, open } of kinds) {
  describe.skipIf(skip)(`A file target in ${kind}`, () => {
    test('says pass to every check', async () => {
      const { target, store } = await open();
      const checks = await target.check();
      expect(checks.filter(({ outcome }) => outcome !== 'pass')).toEqual([]);
      expect(checks.map(({ name }) => name)).toContain('conditional put');
      expect(await keysOf(store)).toEqual([]);
    });

    test('shows a table when it is published and not before, and a new one in its place', async () => {
      const { target, store } = await open();
      const first = fileWork();
      await target.prepare(first);
      const claim = await target.claim(first, chunk(1));
      const counts = await writeParts(target, first, claim, { folder, contents: ['a\nb\n', 'c\n'] });
      expect(counts).toEqual({ read: 3, written: 3, filtered: 0, quarantined: 0, bytes: 6 });
      await target.finish(first);
      expect((await keysOf(store, 'shop/')).filter((key) => !key.includes('/_'))).toEqual([]);
      expect(await target.describe(first.name)).toMatchObject({ owner: 'job-1', empty: true });
      await target.publish([first], []);
      await expectPublished(store, first, ['a', 'b', 'c']);
      await target.publish([first], []);
      await expectPublished(store, first, ['a', 'b', 'c']);

      const second = fileWork();
      await wholeRun(target, second, folder, ['d\n', 'e\nf\n']);
      await expectPublished(store, second, ['d', 'e', 'f']);
      expect(await target.describe(first.name)).toMatchObject({
        owner: 'job-1',
        empty: false,
        columns: [{ name: 'id', native: 'BIGINT', nullable: true }],
      });
    });

    test('keeps every snapshot of mode dumping', async () => {
      const { target, store } = await open();
      const dates = ['2024-01-01T00:00:00.000Z', '2024-01-02T00:00:00.000Z'];
      const works = dates.map((snapshotDate) => fileWork({ mode: 'dumping', snapshotDate }));
      await wholeRun(target, works[0]!, folder, ['a\n']);
      await wholeRun(target, works[1]!, folder, ['b\n', 'c\n']);
      await expectPublished(store, works[1]!, ['a', 'b', 'c']);
      expect((await manifestOf(store, works[1]!)).runs.map(({ snapshotDate }) => snapshotDate)).toEqual(dates);
    });

    test('gives a chunk to one of many who want it, and to nobody twice', async () => {
      const { target, store } = await open();
      const work = fileWork();
      await target.prepare(work);
      const claims = await Promise.all(Array.from({ length: 5 }, () => target.claim(work, chunk(1))));
      expect(claims.map(({ epoch }) => epoch).sort()).toEqual([1, 2, 3, 4, 5]);
      const written = await Promise.allSettled(
        claims.map((claim) => writeParts(target, work, claim, { folder, contents: [`by ${claim.epoch}\n`] })),
      );
      const outcomes = written.map((result) => (result.status === 'rejected' ? result.reason.code : 'done'));
      expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === 'FENCED')).toHaveLength(4);
      expect(await target.claim(work, chunk(1))).toMatchObject({ epoch: 5, done: { written: 1 } });
      await target.publish([work], []);
      await expectPublished(store, work, ['by 5']);
    });

    test('fences an old attempt that wakes up, before and after the new one committed, and after the publication', async () => {
      const { target, store } = await open();
      const work = fileWork();
      await target.prepare(work);
      const [one, two] = [await target.claim(work, chunk(1)), await target.claim(work, chunk(1))];
      const late = { folder, contents: ['late\n'] };
      await expect(writeParts(target, work, one, late)).rejects.toMatchObject({ code: 'FENCED' });
      await writeParts(target, work, two, { folder, contents: ['new\n'] });
      await expect(writeParts(target, work, one, late)).rejects.toMatchObject({ code: 'FENCED' });
      await target.publish([work], []);
      await expectPublished(store, work, ['new']);
      await expect(writeParts(target, work, one, late)).rejects.toMatchObject({ code: 'FENCED' });
      expect((await keysOf(store, '_godwit/')).filter((key) => key.includes('/staging/'))).toEqual([]);
    });

    test('does not publish a table with a chunk that is claimed and not done', async () => {
      const { target } = await open();
      const work = fileWork();
      await target.prepare(work);
      await writeParts(target, work, await target.claim(work, chunk(1)), { folder, contents: ['a\n'] });
      await target.claim(work, chunk(2));
      await expect(target.finish(work)).rejects.toMatchObject({ code: 'CONFLICT' });
      await expect(target.publish([work], [])).rejects.toMatchObject({ code: 'CONFLICT' });
      const found = [];
      for await (const { chunk: of, done, counts } of target.checkpoints(work))
        found.push([of.id, done, counts.written]);
      expect(found).toEqual([
        [1, true, 1],
        [2, false, 0],
      ]);
    });

    test('counts rows set aside, after asking whether it may', async () => {
      const { target } = await open();
      const work = fileWork();
      await target.prepare(work);
      const bad = [{ ordinal: 0, row: ['x'], reason: 'no number' }];
      async function* batches() {
        yield { kind: 'file' as const, path: '', partition: '', rows: 0, bytes: 0, bad };
      }
      const refuse = { ...writeOptions(), quarantine: () => Promise.reject(new Error('too many')) };
      const claim = await target.claim(work, chunk(1));
      await expect(target.write(work, claim, batches(), refuse)).rejects.toThrow('too many');
      expect(await target.write(work, claim, batches(), writeOptions())).toMatchObject({
        read: 1,
        written: 0,
        quarantined: 1,
      });
    });

    test('leaves files alone that it did not write, unless told otherwise', async () => {
      const { target, store } = await open();
      await store.putIfAbsent('shop/orders/theirs.txt', Buffer.from('theirs\n'));
      const work = fileWork();
      expect(await target.refusals(work)).toMatchObject([{ code: 'NOT_OWNED' }]);
      await expect(target.prepare(work)).rejects.toMatchObject({ code: 'NOT_OWNED' });
      const adopting = fileWork({ existing: 'adopt', mode: 'dumping' });
      await wholeRun(target, adopting, folder, ['a\n']);
      expect(await text(store, 'shop/orders/theirs.txt')).toBe('theirs\n');
      const other = fileWork({ jobUid: 'job-2' });
      expect(await target.refusals(other)).toMatchObject([{ code: 'NOT_OWNED' }]);
      await expect(target.publish([other], [])).rejects.toMatchObject({ code: 'NOT_OWNED' });

      const taking = fileWork({ existing: 'overwrite', name: { schema: 'shop', name: 'taken' } });
      await store.putIfAbsent('shop/taken/theirs.txt', Buffer.from('theirs\n'));
      await wholeRun(target, taking, folder, ['b\n']);
      expect(await text(store, 'shop/taken/theirs.txt')).toBeUndefined();
    });

    test('has nothing left of a work that was discarded, also in mid-publication', async () => {
      const { target, store } = await open();
      const work = fileWork();
      await target.prepare(work);
      await writeParts(target, work, await target.claim(work, chunk(1)), { folder, contents: ['a\n'] });
      await target.discard(work);
      await target.discard(work);
      expect(await keysOf(store)).toEqual([]);

      await wholeRun(target, work, folder, ['a\n']);
      const before = await keysOf(store);
      const next = fileWork();
      const broken = targetOf({
        ...store,
        replaceIf: () => Promise.reject(new Error('before the manifest')),
      });
      await expect(wholeRun(broken, next, folder, ['b\n', 'c\n'])).rejects.toThrow('before the manifest');
      expect(await keysOf(store)).not.toEqual(before);
      await target.discard(next);
      expect(await keysOf(store)).toEqual(before);
      await expectPublished(store, work, ['a']);
    });

    test('after any single failure and a second try has what one try would have made', async () => {
      // The store fails once: at its n-th call, before or after doing it. For every n there is.
      for (const when of ['before', 'after'] as const) {
        for (let n = 1; ; n++) {
          const { store } = await open();
          await wholeRun(targetOf(store), fileWork({ run: 'old' }), folder, ['x\n', 'y\n']);
          let calls = 0;
          const failing: Record<string, unknown> = { ...store };
          for (const method of ['putIfAbsent', 'replaceIf', 'get', 'size', 'copy', 'delete'] as const) {
            failing[method] = async (...given: [never, never, never]) => {
              const fails = ++calls === n;
              if (fails && when === 'before') throw new Error('the store failed');
              const result = await store[method](...given);
              if (fails) throw new Error('the store failed');
              return result;
            };
          }
          const work = fileWork({ run: 'new' });
          const target = targetOf(failing as unknown as Store);
          const first = await wholeRun(target, work, folder, ['a\n', 'b\nc\n']).catch((error: Error) => error);
          if (first === undefined) break;
          expect(first.message).toBe('the store failed');
          await wholeRun(target, work, folder, ['a\n', 'b\nc\n']);
          await expectPublished(store, work, ['a', 'b', 'c']);
          expect(n).toBeLessThan(200);
        }
      }
    }, 240_000);

    test.each(['before-commit', 'after-commit', 'in-publish', 'before-manifest'])(
      'killed %s, it goes on where it was',
      async (point) => {
        const { store, settings } = await open();
        await wholeRun(targetOf(store), fileWork({ run: 'old' }), folder, ['x\n', 'y\n']);
        const work = fileWork({ run: 'new' });
        const faults = await mkdtemp(join(folder, 'faults-'));
        await writeFile(join(faults, point), 'SIGKILL');
        const argument = { settings, work, contents: ['a\n', 'b\nc\n', 'd\n'], root: folder };
        expect(await child(argument, faults)).toBe('SIGKILL');
        const seen = await manifestOf(store, work);
        expect(seen.runs.map(({ run }) => run)).toEqual(['old']);
        expect(await child(argument, faults)).toBe(0);
        await expectPublished(store, work, ['a', 'b', 'c', 'd']);
      },
    );

    test('does not let an older run publish over a newer one, nor go on when its parts are gone', async () => {
      const { target, store } = await open();
      const [older, newer] = [fileWork(), fileWork()];
      await target.prepare(older);
      await writeParts(target, older, await target.claim(older, chunk(1)), { folder, contents: ['old\n'] });
      await wholeRun(target, newer, folder, ['new\n']);
      await expect(target.publish([older], [])).rejects.toMatchObject({ code: 'CONFLICT' });
      await expect(target.prepare(older)).rejects.toMatchObject({ code: 'CONFLICT' });
      await expectPublished(store, newer, ['new']);
    });

    test('moves large parts whole', async () => {
      const { target, store } = await open();
      const work = fileWork();
      await target.prepare(work);
      const big = Buffer.concat([randomBytes(17 * 1024 * 1024), Buffer.from('\n')]);
      await writeParts(target, work, await target.claim(work, chunk(1)), {
        folder,
        contents: [big],
        partition: 'day=1',
      });
      await target.publish([work], []);
      const [part] = (await manifestOf(store, work)).parts;
      expect(part).toMatchObject({
        bytes: big.length,
        partition: 'day=1',
        path: expect.stringMatching(/^day=1\/part-/),
      });
      const found = (await store.get(`shop/orders/${part!.path}`))!.bytes;
      expect(Buffer.compare(found, big)).toBe(0);
    });

    test('takes any name, and keeps it inside of its folder', async () => {
      const { target, store } = await open();
      const names = ['..', '.hidden', '_hidden', 'a/b', 'a\\b', 'a%2Fb', 'é "x" ', 'tab\there', 'a:b*c?'];
      for (const name of names) {
        const work = fileWork({ name: { schema: '..', name } });
        await wholeRun(target, work, folder, [`${name.replace('\n', '')}\n`]);
      }
      const folders = new Set((await keysOf(store)).map((key) => key.split('/').slice(0, 2).join('/')));
      expect([...folders].every((path) => /^%2E%2E?\.?\//.test(path) || path.startsWith('%2E'))).toBe(true);
      expect(folders.size).toBe(names.length);
    });
  });
}

function child(argument: unknown, faults: string): Promise<string | number | null> {
  const program = fileURLToPath(new URL('files-child.ts', import.meta.url));
  const started = spawn(process.execPath, [program, JSON.stringify(argument)], {
    env: { ...process.env, GODWIT_FAULT_FOLDER: faults, TMPDIR: faults },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return new Promise((done) => {
    started.on('exit', (code, signal) => done(signal ?? code));
  });
}

describe('A folder', () => {
  test('outside of the allowed ones is refused, also behind a link', async () => {
    const roots = join(folder, 'roots');
    await mkdir(join(roots, 'inside'), { recursive: true });
    await symlink(folder, join(roots, 'way-out'));
    const open = (path: string) => openTarget(parseSettings('files', { path }), { fileRoots: [roots] });
    for (const path of ['/etc', folder, join(roots, '..', 'roots2'), join(roots, 'way-out', 'x')]) {
      await expect(open(path)).rejects.toMatchObject({ code: 'SETTINGS_INVALID' });
    }
    const target = await open(join(roots, 'inside', 'new'));
    expect(await target.identity()).toBe(await (await open(join(roots, '.', 'inside', 'new'))).identity());
  });
});

describe.skipIf(await missing('s3'))('An S3 that refuses', () => {
  const opened = async (wrong: Partial<S3Settings>) => {
    const { settings } = await s3Place();
    return openTarget({ ...(settings as S3Settings), ...wrong }, { fileRoots: [] });
  };
  const cases: readonly [string, string, Partial<S3Settings>][] = [
    ['a wrong secret', 'LOGIN_REFUSED', { secret_access_key: 'wrong-SECRET' }],
    ['a wrong key', 'LOGIN_REFUSED', { access_key_id: 'nobody' }],
    ['no such bucket', 'DATABASE_MISSING', { s3_bucket_name: 'there-is-none' }],
    ['nobody at the port', 'CONNECTION_FAILED', { endpoint: 'http://127.0.0.1:9' }],
  ];
  test.each(cases)('%s is %s', async (_, code, wrong) => {
    const target = await opened(wrong);
    const failure = await target.prepare(fileWork()).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code });
    expect(String(failure)).not.toContain('wrong-SECRET');
    expect((await target.check()).some(({ outcome, fix }) => outcome === 'fail' && fix !== undefined)).toBe(true);
  });
});
