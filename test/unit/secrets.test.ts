import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { ApplicationFailure } from '@temporalio/common';
import { loadDataConverter } from '@temporalio/common/lib/internal-non-workflow/index.js';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { createCodec } from '../../secrets/codec.ts';
import { createDataConverter } from '../../secrets/converter.ts';
import { createHttpCodec } from '../../secrets/http-codec.ts';
import { keyringOf, openKeyring } from '../../secrets/keyring.ts';
import { resolveReference } from '../../secrets/references.ts';
import { createSealer } from '../../secrets/seal.ts';
import { Secret } from '../../secrets/secret.ts';

const keyring = keyringOf(Buffer.alloc(32, 7));
const other = keyringOf(Buffer.alloc(32, 8));
const sealer = createSealer(keyring);
const home = mkdtempSync(join(tmpdir(), 'godwit-secrets-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));
const coded = (code: string) => expect.objectContaining({ code });

describe('sealing', () => {
  test('what was sealed opens, and only for its purpose and its key', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), fc.string(), fc.string(), (bytes, purpose, elsewhere) => {
        const envelope = sealer.seal(bytes, purpose);
        expect(Buffer.compare(sealer.open(envelope, purpose), Buffer.from(bytes))).toBe(0);
        expect(() => createSealer(other).open(envelope, purpose)).toThrow(coded('SECRET_UNREADABLE'));
        if (elsewhere !== purpose) expect(() => sealer.open(envelope, elsewhere)).toThrow(coded('SECRET_UNREADABLE'));
      }),
    );
  });

  test('a changed bit, anywhere, is noticed; so is a cut', () => {
    const envelope = sealer.sealText('tomato', 'test');
    for (let at = 0; at < envelope.length; at++) {
      const changed = Buffer.from(envelope);
      changed[at] = (changed[at] as number) ^ 1;
      expect(() => sealer.open(changed, 'test')).toThrow(coded('SECRET_UNREADABLE'));
      expect(() => sealer.open(envelope.subarray(0, at), 'test')).toThrow(coded('SECRET_UNREADABLE'));
    }
  });

  test('JSON, bigint, bytes and odd numbers come back as they were', () => {
    const leaf = fc.oneof(
      fc.string(),
      fc.double(),
      fc.bigInt(),
      fc.boolean(),
      fc.constant(null),
      fc.uint8Array(),
      fc.constantFrom(-0, Number.NaN),
    );
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        leaf,
        fc.array(tie('value'), { maxLength: 4 }),
        fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('$', 'v', '__proto__')), tie('value'), {
          maxKeys: 4,
          noNullPrototype: true,
        }),
      ),
    }));
    fc.assert(
      fc.property(value, (before) => {
        expect(sealer.openJson(sealer.sealJson(before, 'p'), 'p')).toStrictEqual(before);
      }),
    );
  });

  test('the same secret sealed twice looks different', () => {
    expect(sealer.sealText('x', 'p').equals(sealer.sealText('x', 'p'))).toBe(false);
  });
});

describe('the key', () => {
  test('is made once, readable by its owner alone, also by ten processes at once', () => {
    const folder = join(home, 'made');
    const script = `import { openKeyring } from ${JSON.stringify(new URL('../../secrets/keyring.ts', import.meta.url).href)};
      console.log(openKeyring({ home: ${JSON.stringify(folder)} }).id);`;
    const one = `"${process.execPath}" --input-type=module-typescript -e '${script}'`;
    const ids = execFileSync('sh', ['-c', `${Array(10).fill(one).join(' & ')} & wait`], { encoding: 'utf8' });
    expect(new Set(ids.trim().split('\n')).size).toBe(1);
    expect(ids.trim().split('\n')).toHaveLength(10);
    expect(statSync(join(folder, 'key')).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['key']);
  });

  test('is refused when others may read it', () => {
    const folder = join(home, 'open');
    openKeyring({ home: folder });
    chmodSync(join(folder, 'key'), 0o644);
    expect(() => openKeyring({ home: folder })).toThrow(/chmod 600/);
  });

  test('comes from GODWIT_KEY when given, which must be 32 bytes', () => {
    const key = Buffer.alloc(32, 7).toString('base64');
    expect(openKeyring({ home: join(home, 'none'), key }).id).toBe(keyring.id);
    expect(() => openKeyring({ home, key: 'c2hvcnQ=' })).toThrow(coded('SETTINGS_INVALID'));
  });

  test('never prints', () => {
    expect(inspect(keyring) + JSON.stringify(keyring)).not.toContain('7, ');
    expect(JSON.parse(JSON.stringify(keyring))).toEqual({ id: keyring.id });
  });
});

test('a Secret prints as *** wherever it is shown', () => {
  const secret = new Secret('tomato');
  const everywhere = `${secret}${JSON.stringify({ secret })}${inspect({ secret })}${inspect(secret, { showHidden: true })}`;
  expect(everywhere).not.toContain('tomato');
  expect(everywhere).toContain('***');
  expect(secret.reveal()).toBe('tomato');
});

describe('references', () => {
  const env = { GODWIT_SECRET_A: 'one', PATH: '/bin' };
  const rules = { home, envAllow: ['GODWIT_SECRET_*', 'PG.*'], env };
  mkdirSync(join(home, 'secrets'), { recursive: true });
  writeFileSync(join(home, 'secrets', 'pw'), 'two\n');
  writeFileSync(join(home, 'outside'), 'no');
  symlinkSync(join(home, 'outside'), join(home, 'secrets', 'link'));

  test('variables that are allowed, files of the secrets folder, and plain values', async () => {
    expect(await resolveReference('env:GODWIT_SECRET_A', rules)).toBe('one');
    expect(await resolveReference('file:pw', rules)).toBe('two');
    expect(await resolveReference('plain:text', rules)).toBe('plain:text');
  });

  test.each([
    'env:PATH',
    'env:PGX',
    'env:GODWIT_SECRET_B',
    'env:',
    'file:../outside',
    'file:link',
    'file:/etc/passwd',
    'file:missing',
    'file:.',
    'file:',
  ])('%s is refused', async (reference) => {
    await expect(resolveReference(reference, rules)).rejects.toThrow(coded('SECRET_UNRESOLVED'));
  });
});

describe('what goes to Temporal', () => {
  const codec = createCodec(keyring);
  const payload = { metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from('"tomato"') };

  test('is encrypted with the id of its key, and comes back', async () => {
    const [encoded] = await codec.encode([payload]);
    expect(
      Buffer.concat([...Object.values(encoded?.metadata ?? {}), encoded?.data ?? new Uint8Array()]).toString(),
    ).not.toContain('tomato');
    expect(Buffer.from(encoded?.metadata?.['encryption-key-id'] ?? []).toString()).toBe(keyring.id);
    const [decoded] = await codec.decode([encoded as typeof payload]);
    expect(Buffer.from(decoded?.data ?? []).toString()).toBe('"tomato"');
    expect(Buffer.from(decoded?.metadata?.encoding ?? []).toString()).toBe('json/plain');
    await expect(createCodec(other).decode([encoded as typeof payload])).rejects.toThrow(coded('SECRET_UNREADABLE'));
  });

  test('plain payloads pass', async () => {
    expect(await codec.decode([payload])).toEqual([payload]);
  });

  test('failures carry their message and stack as payloads', () => {
    const { failureConverter, payloadConverter } = loadDataConverter(createDataConverter(keyring));
    const failure = failureConverter.errorToFailure(ApplicationFailure.create({ message: 'tomato' }), payloadConverter);
    expect(failure.message).not.toContain('tomato');
    expect(failure.stackTrace ?? '').not.toContain('tomato');
    expect(Buffer.from(failure.encodedAttributes?.data ?? []).toString()).toContain('tomato');
  });

  test("the codec endpoint decodes for pages of Temporal's UI alone", async () => {
    const handle = createHttpCodec(codec, 'http://localhost:8233');
    const [encoded] = await codec.encode([payload]);
    const body = JSON.stringify({
      payloads: [
        {
          metadata: Object.fromEntries(
            Object.entries(encoded?.metadata ?? {}).map(([k, v]) => [k, Buffer.from(v ?? []).toString('base64')]),
          ),
          data: Buffer.from(encoded?.data ?? []).toString('base64'),
        },
      ],
    });
    const ask = (origin: string) =>
      handle(new Request('http://127.0.0.1/codec/x/decode', { method: 'POST', body, headers: { origin } }));
    const answer = await ask('http://localhost:8233');
    const { payloads } = (await answer.json()) as { payloads: { data: string }[] };
    expect(Buffer.from(payloads[0]?.data ?? '', 'base64').toString()).toBe('"tomato"');
    expect(answer.headers.get('access-control-allow-origin')).toBe('http://localhost:8233');
    expect((await ask('http://evil.example')).status).toBe(403);
  });
});
