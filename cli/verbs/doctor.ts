import { accessSync, constants, existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config } from '../../config.ts';
import type { Check } from '../../connectors/contract.ts';
import { asGodwitError, codes } from '../../errors.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { bytes } from '../output.ts';
import { running } from '../reach.ts';
import { showChecks } from './endpoints.ts';

/** Named checks of this installation, each with what to do. Starts nothing and changes nothing. */
export async function doctor({ config, out }: Context): Promise<number> {
  const checks = await Promise.all([
    node(),
    home(config),
    space(config),
    postgres(config),
    temporal(config),
    api(config),
    token(config),
  ]);
  showChecks(checks, out);
  return checks.some((check) => check.outcome === 'fail') ? exits.failed : exits.succeeded;
}

async function node(): Promise<Check> {
  const good = Number(process.versions.node.split('.')[0]) >= 24;
  const detail = `Node ${process.version} on ${process.platform}-${process.arch}`;
  return good
    ? { name: 'node', outcome: 'pass', detail }
    : { name: 'node', outcome: 'fail', detail, fix: 'Start Godwit by ./godwit, which brings Node 24.' };
}

async function home({ home }: Config): Promise<Check> {
  const there = nearestFolder(home);
  try {
    accessSync(there, constants.W_OK);
    return {
      name: 'GODWIT_HOME',
      outcome: 'pass',
      detail: existsSync(home) ? home : `${home}, made at the first start`,
    };
  } catch {
    return {
      name: 'GODWIT_HOME',
      outcome: 'fail',
      detail: `${there} cannot be written by this user`,
      fix: 'Set GODWIT_HOME to a folder of your own.',
    };
  }
}

function nearestFolder(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearestFolder(dirname(path));
}

async function space({ home }: Config): Promise<Check> {
  const { bavail, bsize } = statfsSync(nearestFolder(home));
  const free = bavail * bsize;
  const detail = `${bytes(free)} free for data and spool`;
  if (free < 200e6)
    return { name: 'disk', outcome: 'fail', detail, fix: 'Free space, or set GODWIT_HOME to another disk.' };
  return free < 2e9
    ? { name: 'disk', outcome: 'warn', detail, fix: 'A chunk on its way to files needs some hundred MB.' }
    : { name: 'disk', outcome: 'pass', detail };
}

/** As a check: passes with the sentence, fails with the error's own words. */
async function tried(name: string, attempt: () => Promise<string>): Promise<Check> {
  try {
    return { name, outcome: 'pass', detail: await attempt() };
  } catch (error) {
    const failure = asGodwitError(error);
    return { name, outcome: 'fail', detail: failure.message, fix: codes[failure.code].fix };
  }
}

const postgres = ({ databaseUrl }: Config) =>
  tried('PostgreSQL', async () => {
    if (databaseUrl) {
      const { default: pg } = await import('pg');
      const client = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: 5_000 });
      await client.connect();
      const { rows } = await client
        .query<{ server_version: string }>('SHOW server_version')
        .finally(() => client.end());
      return `DATABASE_URL answers: PostgreSQL ${rows[0]?.server_version}`;
    }
    const { findPostgres } = await import('../../servers/postgres.ts');
    const found = await findPostgres();
    return `embedded, version ${found.version}`;
  });

const temporal = ({ temporal }: Config) =>
  tried('Temporal', async () => {
    if (temporal.address) {
      const { answers } = await import('../../servers/ports.ts');
      const [, host = '127.0.0.1', port = '7233'] = /^(.*):(\d+)$/.exec(temporal.address) ?? [];
      if (await answers(Number(port), host, 5_000)) return `TEMPORAL_ADDRESS answers: ${temporal.address}`;
      throw new Error(`Nothing answers at TEMPORAL_ADDRESS (${temporal.address}).`);
    }
    const { findTemporalCli } = await import('../../servers/temporal.ts');
    return `embedded, ${await findTemporalCli()}`;
  });

async function api(config: Config): Promise<Check> {
  try {
    const url = await running(config);
    return {
      name: 'API',
      outcome: 'pass',
      detail: url ? `answers at ${url}` : 'not running: commands run Godwit for as long as they last',
    };
  } catch (error) {
    return {
      name: 'API',
      outcome: 'fail',
      detail: asGodwitError(error).message,
      fix: 'Start it, or correct GODWIT_URL.',
    };
  }
}

async function token({ host, token }: Config): Promise<Check> {
  const loopback = ['127.0.0.1', '::1', 'localhost'].includes(host);
  if (loopback || token)
    return { name: 'access', outcome: 'pass', detail: token ? 'a token is asked for' : 'loopback only' };
  return {
    name: 'access',
    outcome: 'fail',
    detail: `HOST is ${host} and GODWIT_TOKEN is not set`,
    fix: 'Set GODWIT_TOKEN, or HOST=127.0.0.1.',
  };
}
