import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { reachableBy } from '../../servers/unprivileged.ts';

const nobody = { name: 'nobody', uid: 65_534, gid: 65_534 };
const project = join(import.meta.dirname, '../..');
const launcher = join(project, 'godwit');

/** Makes the launcher start its file as a child, as on Node 18 to 22, instead of becoming it. */
const asChild = ['--import', 'data:text/javascript,process.execve=undefined'];

type Ended = {
  readonly code: number | null;
  readonly signal: string | null;
  readonly out: string;
  readonly err: string;
};

function start(args: string[], options: SpawnOptions = {}): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout?.on('data', (piece) => {
    out += piece;
  });
  child.stderr?.on('data', (piece) => {
    err += piece;
  });
  const ended = new Promise<Ended>((resolve) =>
    child.on('close', (code, signal) => resolve({ code, signal, out, err })),
  );
  return { child, ended };
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'godwit-launcher-'));
  await chmod(path, 0o755);
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function program(text: string): Promise<string> {
  const file = join(await folder(), 'program.ts');
  await writeFile(file, text);
  return file;
}

type Lock = { readonly dependencies?: Record<string, string>; readonly packages?: Record<string, object> };

/** A clone with next to nothing to install, whose cli/main.ts tells its arguments. */
async function smallClone({ dependencies = {}, packages = {} }: Lock = {}): Promise<string> {
  const clone = await folder();
  const manifest = { name: 'small', version: '1.0.0', type: 'module', dependencies };
  await copyFile(join(project, 'godwit.mjs'), join(clone, 'godwit.mjs'));
  await writeFile(join(clone, 'package.json'), JSON.stringify(manifest));
  const lock = {
    name: 'small',
    version: '1.0.0',
    lockfileVersion: 3,
    requires: true,
    packages: { '': manifest, ...packages },
  };
  await writeFile(join(clone, 'package-lock.json'), JSON.stringify(lock));
  await writeFile(join(clone, '.npmrc'), 'fetch-retries=0\n');
  await mkdir(join(clone, 'cli'));
  await writeFile(join(clone, 'cli', 'main.ts'), 'console.log(JSON.stringify(process.argv.slice(2) as string[]));');
  return clone;
}

describe.each([
  ['becoming Node', []],
  ['with Node as a child', asChild],
])('The launcher, %s', (_, flags) => {
  test('passes arguments, environment and output on, and says nothing itself', async () => {
    const file = await program(`const given: string[] = process.argv.slice(2);
      console.log(JSON.stringify({ given, version: process.version, own: process.env.OWN, path: process.env.PATH?.split(':')[0] }));`);
    const args = ['a b', '', '--flag', "it's", '$HOME', '*'];
    const { ended } = start([...flags, launcher, '--exec', file, ...args], { env: { ...process.env, OWN: 'x' } });
    const { code, out, err } = await ended;
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(JSON.parse(out)).toEqual({
      given: args,
      version: expect.stringMatching(/^v24\./),
      own: 'x',
      path: join(project, 'node_modules', '.bin'),
    });
  });

  test('passes the exit code on', async () => {
    const { ended } = start([...flags, launcher, '--exec', await program('process.exitCode = 37 as number;')]);
    expect(await ended).toMatchObject({ code: 37, signal: null });
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s reaches the program, whose answer counts', async (signal) => {
    const file = await program(`process.on('${signal}', () => { console.log('got it'); process.exit(9); });
      console.log('ready'); setInterval(() => {}, 1000);`);
    const { child, ended } = start([...flags, launcher, '--exec', file]);
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    child.kill(signal);
    expect(await ended).toMatchObject({ code: 9, out: 'ready\ngot it\n' });
  });

  test('a program that a signal ends is seen to end by it', async () => {
    const { ended } = start([
      ...flags,
      launcher,
      '--exec',
      await program("process.kill(process.pid, 'SIGTERM'); setInterval(() => {}, 1000);"),
    ]);
    expect(await ended).toMatchObject({ code: null, signal: 'SIGTERM' });
  });

  test('finds its clone through links, from any folder', async () => {
    const dir = await folder();
    await symlink(launcher, join(dir, 'link'));
    const { ended } = start([...flags, join(dir, 'link'), '--exec', 'test/servers/echo.ts', 'here'], { cwd: dir });
    expect(await ended).toMatchObject({ code: 0, out: 'here\n' });
  });
});

describe('A clone without node_modules', () => {
  test('is installed on first use with one line, and not again', async () => {
    const clone = await smallClone();
    const first = await start([join(clone, 'godwit.mjs'), 'run', 'x']).ended;
    expect(first).toMatchObject({ code: 0, out: '["run","x"]\n' });
    expect(first.err).toBe('Installing what Godwit needs (once, about a minute) …\n');
    const { mtimeMs } = await stat(join(clone, 'node_modules'));
    expect(await start([join(clone, 'godwit.mjs')]).ended).toMatchObject({ code: 0, out: '[]\n', err: '' });
    expect((await stat(join(clone, 'node_modules'))).mtimeMs).toBe(mtimeMs);
  });

  test('is installed again when the lock file changed', async () => {
    const clone = await smallClone();
    await start([join(clone, 'godwit.mjs')]).ended;
    const lock = join(clone, 'package-lock.json');
    await writeFile(lock, `${await readFile(lock, 'utf8')}\n`);
    const again = await start([join(clone, 'godwit.mjs')]).ended;
    expect(again).toMatchObject({ code: 0, out: '[]\n', err: expect.stringContaining('Installing') });
  });

  test('of several starts at once one installs and all run', async () => {
    const clone = await smallClone();
    const all = await Promise.all([1, 2, 3].map((n) => start([join(clone, 'godwit.mjs'), String(n)]).ended));
    expect(all.map(({ code, out }) => ({ code, out }))).toEqual([1, 2, 3].map((n) => ({ code: 0, out: `["${n}"]\n` })));
    expect(all.filter(({ err }) => err.includes('Installing'))).toHaveLength(1);
  });

  test('the lock of an installation that died is taken over', async () => {
    const clone = await smallClone();
    const { child, ended } = start(['-e', '']);
    await ended;
    await writeFile(join(clone, '.godwit-installing'), String(child.pid));
    expect(await start([join(clone, 'godwit.mjs')]).ended).toMatchObject({ code: 0, out: '[]\n' });
  });

  test('no network is one sentence', async () => {
    const resolved = 'http://127.0.0.1:1/absent/-/absent-1.0.0.tgz';
    const clone = await smallClone({
      dependencies: { absent: '1.0.0' },
      packages: { 'node_modules/absent': { version: '1.0.0', resolved, integrity: `sha512-${'A'.repeat(86)}==` } },
    });
    const { code, out, err } = await start([join(clone, 'godwit.mjs')]).ended;
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(/^Installing.*\ngodwit: the npm registry cannot be reached.*\n$/);
  });

  test('no npm is one sentence', async () => {
    const clone = await smallClone();
    const env = { PATH: clone, HOME: clone };
    const { code, err } = await start([join(clone, 'godwit.mjs')], { env }).ended;
    expect(code).toBe(1);
    expect(err).toContain('godwit: npm could not be started (ENOENT): install Node.js with npm.\n');
  });

  test('a folder that may not be written to is one sentence', async ({ skip }) => {
    skip(
      process.getuid?.() === 0 && !reachableBy(nobody, process.execPath),
      'a read-only clone: root writes everywhere',
    );
    const clone = await smallClone();
    await chmod(clone, 0o555);
    onTestFinished(() => chmod(clone, 0o755));
    const user = process.getuid?.() === 0 ? { uid: nobody.uid, gid: nobody.gid } : {};
    const { code, err } = await start([join(clone, 'godwit.mjs')], { ...user, cwd: '/' }).ended;
    expect(code).toBe(1);
    expect(err).toBe(`godwit: ${clone} may not be written to (EACCES), so nothing can be installed there.\n`);
  });

  test('a Node that is too old, with none to be had, is one sentence', async () => {
    const clone = await smallClone();
    const old = ['--import', "data:text/javascript,Object.defineProperty(process,'version',{value:'v18.12.0'})"];
    await start([join(clone, 'godwit.mjs')]).ended;
    const { code, err } = await start([...old, join(clone, 'godwit.mjs')], { env: { PATH: clone } }).ended;
    expect(code).toBe(1);
    expect(err).toContain('godwit: Godwit needs Node.js 24 or newer and this is v18.12.0');
  });

  test('the real one is installed from the registry', { timeout: 300_000 }, async ({ skip }) => {
    skip(process.env.CI !== 'true', 'installing the real clone takes a minute and 400 MB: only with CI=true');
    const clone = await folder();
    for (const file of ['godwit.mjs', 'package.json', 'package-lock.json']) {
      await copyFile(join(project, file), join(clone, file));
    }
    await writeFile(join(clone, 'program.ts'), "import 'pg';\nconsole.log(process.version as string);");
    const { code, out, err } = await start([join(clone, 'godwit.mjs'), '--exec', 'program.ts']).ended;
    expect({ code, err }).toEqual({ code: 0, err: 'Installing what Godwit needs (once, about a minute) …\n' });
    expect(out).toMatch(/^v24\./);
  });
});
