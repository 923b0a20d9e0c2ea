#!/usr/bin/env node
// Starts Godwit (`godwit` is a link to this file, whose name Node 18 needs to see) from a clone: installs what is locked when that is missing or older than the lock file, then runs
// cli/main.ts under the Node that the project pins. Plain JavaScript without dependencies, for any Node from 18 on.
//   godwit VERB …              the command line
//   godwit --exec FILE args…   another file of the clone, under the same Node
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const minimum = 24;
// Moving data makes few objects that live: what V8 keeps in hand is garbage, up to 48 MB of the young ones in each of a worker's
// threads, and four times what lives of the old ones. Collected sooner, a worker takes some 100 MB less. (Sooner still, and the
// API feels it: with 4 and 50 it answers 500 lists of runs a second no more on two cores.)
const heap = ['--max-semi-space-size=8', '--heap-growing-percent=100'];
const home = path.dirname(fs.realpathSync(fileURLToPath(import.meta.url)));
const modules = path.join(home, 'node_modules');
const lockFile = path.join(home, 'package-lock.json');
const stamp = path.join(modules, '.godwit-installed');

try {
  if (!installed()) await install();
  runUnderPinnedNode(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`godwit: ${error.message}\n`);
  process.exitCode = 1;
}

/** npm wrote its own record after the lock file last changed, or our stamp says that this very lock file was installed. */
function installed() {
  const record = fs.statSync(path.join(modules, '.package-lock.json'), { throwIfNoEntry: false });
  const lock = fs.statSync(lockFile, { throwIfNoEntry: false });
  return (record && (!lock || record.mtimeMs >= lock.mtimeMs)) || read(stamp) === lockHash();
}

function lockHash() {
  return createHash('sha256')
    .update(read(lockFile) ?? '')
    .digest('hex');
}

async function install() {
  const release = await takeLock();
  try {
    if (installed()) return; // another start did it meanwhile
    process.stderr.write('Installing what Godwit needs (once, about a minute) …\n');
    const log = path.join(os.tmpdir(), `godwit-npm-${process.pid}.log`);
    // A first installation is exactly the lock file; a later one only changes what differs, because a Godwit may be
    // running from this folder.
    const first = fs.existsSync(lockFile) && !fs.existsSync(modules);
    let result = npm(...(first ? ['ci'] : ['install', '--no-save']));
    // EUSAGE: the lock file does not fit package.json; somebody is at work on both.
    if (first && result.status && /EUSAGE/.test(result.stderr)) result = npm('install', '--no-save');
    if (result.error) throw new Error(`npm could not be started (${result.error.code}): install Node.js with npm.`);
    if (result.status !== 0) {
      fs.writeFileSync(log, `${result.stdout}${result.stderr}`);
      throw new Error(sentenceFor(result, log));
    }
    fs.mkdirSync(modules, { recursive: true });
    fs.writeFileSync(stamp, lockHash());
  } finally {
    release();
  }
}

function npm(...verb) {
  const args = [...verb, '--no-audit', '--no-fund', '--loglevel=error'];
  // npm's own script under this Node, where it can be found: it works without a shell on every system.
  const script = process.env.npm_execpath;
  const options = { cwd: home, encoding: 'utf8', maxBuffer: 1 << 26, env: { ...process.env, npm_config_yes: 'true' } };
  if (script && /npm-cli\.c?js$/.test(script)) return spawnSync(process.execPath, [script, ...args], options);
  const windows = process.platform === 'win32';
  return spawnSync(windows ? 'npm.cmd' : 'npm', args, { ...options, shell: windows });
}

/** One sentence for what went wrong in npm. */
function sentenceFor({ status, signal, stdout, stderr }, log) {
  if (signal) return `the installation was interrupted (${signal}); start again to continue.`;
  const said = `${stdout}${stderr}`;
  const whole = ` npm's whole output is in ${log}.`;
  if (/ENOSPC/.test(said)) return `there is no space left to install what Godwit needs in ${modules}.${whole}`;
  if (/EACCES|EPERM|EROFS/.test(said)) {
    return `${home} may not be written to, so nothing can be installed there: clone it to a folder of your own.${whole}`;
  }
  if (/ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNREFUSED|ECONNRESET|ENETUNREACH|ERR_SOCKET_TIMEOUT/.test(said)) {
    return `the npm registry cannot be reached, so what Godwit needs cannot be installed: check the network or npm's \`registry\` and \`proxy\` settings.${whole}`;
  }
  const reason = said.match(/npm (?:error|ERR!) (?!code|A complete log)(.+)/)?.[1] ?? `status ${status}`;
  return `npm could not install what Godwit needs: ${reason}.${whole}`;
}

/** Of two starts at once one installs and the other waits. The lock of a process that is gone is taken over. */
async function takeLock() {
  const lock = path.join(home, '.godwit-installing');
  for (let waited = false; ; waited = true) {
    try {
      fs.writeFileSync(lock, String(process.pid), { flag: 'wx' });
      return () => fs.rmSync(lock, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') {
        throw new Error(`${home} may not be written to (${error.code}), so nothing can be installed there.`);
      }
    }
    const holder = Number(read(lock));
    if (holder > 0 && !alive(holder)) fs.rmSync(lock, { force: true });
    else {
      if (!waited) process.stderr.write('Waiting for another start of Godwit that is installing …\n');
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** The pinned Node from npm, else this one, else the one on PATH, as long as it is new enough. */
function findNode() {
  const { platform, arch } = process;
  const name = platform === 'win32' ? 'node.exe' : 'node';
  const pinned = path.join(modules, `node-${platform === 'win32' ? 'win' : platform}-${arch}`, 'bin', name);
  if (fs.existsSync(pinned)) return { node: pinned, flags: [] };
  // Before 24.12 Node warns about running TypeScript as it is.
  const flags = ['--disable-warning=ExperimentalWarning'];
  if (majorOf(process.version) >= minimum) return { node: process.execPath, flags };
  const found = spawnSync(name, ['--version'], { encoding: 'utf8' });
  if (found.status === 0 && majorOf(found.stdout) >= minimum) return { node: name, flags };
  throw new Error(
    `Godwit needs Node.js ${minimum} or newer and this is ${process.version}; npm has no own one for ${platform}-${arch}. Install it from https://nodejs.org.`,
  );
}

function runUnderPinnedNode(args) {
  const { node, flags } = findNode();
  const exec = args[0] === '--exec';
  if (exec && args[1] === undefined) throw new Error('--exec needs a file.');
  const file = exec ? path.resolve(home, args[1]) : path.join(home, 'cli', 'main.ts');
  const command = [...heap, ...flags, file, ...args.slice(exec ? 2 : 0)];
  const env = {
    // glibc keeps an arena per thread, each with memory that was freed: two are enough, and save a worker some 50 MB.
    MALLOC_ARENA_MAX: '2',
    ...process.env,
    PATH: `${path.join(modules, '.bin')}${path.delimiter}${process.env.PATH ?? ''}`,
  };
  // Becoming that Node instead of waiting for it: no second process, and signals arrive where they belong.
  if (process.execve && process.platform !== 'win32') {
    try {
      process.execve(node, [node, ...command], env);
    } catch {
      // not possible here: as a child
    }
  }
  const child = spawn(node, command, { stdio: 'inherit', env });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']) {
    // The terminal's Ctrl-C goes to the whole group, the child included; only what others send is passed on.
    process.on(signal, () => (signal === 'SIGINT' && process.stdin.isTTY ? undefined : child.kill(signal)));
  }
  child.on('error', (error) => {
    process.stderr.write(`godwit: ${node} cannot be run: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code ?? 1);
    for (const name of process.eventNames()) if (String(name).startsWith('SIG')) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function majorOf(version) {
  return Number(/^v?(\d+)/.exec(version)?.[1] ?? 0);
}
