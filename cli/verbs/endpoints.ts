import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { GodwitError } from '../../errors.ts';
import type { Client } from '../client.ts';
import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { type Output, paintOf, table, usage } from '../output.ts';
import { reach } from '../reach.ts';
import { systemList, systemWords } from '../systems.ts';
import type { CheckView } from '../views.ts';

export type Kind = 'connection' | 'source' | 'target';

type EndpointView = {
  readonly name: string;
  readonly type: string;
  readonly connection?: string | null;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly secretNames?: readonly string[];
};

const at = (kind: Kind, name?: string): string => `/api/${kind}s${name === undefined ? '' : `/${part(name)}`}`;

/** `key=value` pairs; a value `@file` is read from the file. `env:` references are the user's own variables. */
export async function add(
  kind: Kind,
  { config, out, options }: Context,
  name = '',
  ...pairs: string[]
): Promise<undefined> {
  const settings = Object.fromEntries(pairs.map(setting));
  const { connection } = options as { connection?: string };
  const type = (options as { type?: string }).type ?? (connection === undefined ? await askType(kind) : undefined);
  await using reached = await reach({ config, out });
  const { client } = reached;
  const body = { name, ...(type ? { type } : {}), ...(connection ? { connection } : {}), settings };
  const before = options.replace === true ? await existing(client, kind, name) : undefined;
  const saved = before
    ? await client.put<EndpointView>(at(kind, name), { ...body, type: type ?? before.type })
    : await client.post<EndpointView>(at(kind), body);
  out.text(`${before ? 'Changed' : 'Added'} ${kind} ${saved.name}. Try it: godwit ${kind} test ${saved.name}`);
  out.json({ kind, ...saved });
}

async function askType(kind: Kind): Promise<string> {
  if (!process.stdin.isTTY || !process.stdout.isTTY)
    throw usage(`Say what it is: --type ${systemList}${kind === 'connection' ? '' : ', or --connection NAME'}.`);
  const { isCancel, select } = await import('@clack/prompts');
  const words = kind === 'source' ? systemWords.filter((word) => word !== 's3' && word !== 'files') : systemWords;
  const answer = await select({
    message: `What is this ${kind}?`,
    options: words.map((value) => ({ value, label: value })),
  });
  if (isCancel(answer)) throw new GodwitError('CANCELED', 'Nothing was saved.');
  return answer;
}

async function existing(client: Client, kind: Kind, name: string): Promise<EndpointView | undefined> {
  try {
    return await client.get<EndpointView>(at(kind, name));
  } catch (error) {
    if (error instanceof GodwitError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

function setting(pair: string): [string, string | boolean] {
  const equals = pair.indexOf('=');
  if (equals < 1) throw usage(`"${pair}" is no setting; write key=value.`);
  const key = pair.slice(0, equals);
  const value = pair.slice(equals + 1);
  if (value.startsWith('@')) return [key, readText(value.slice(1))];
  if (key === 'path' && value.startsWith('.')) return [key, resolve(value)];
  const variable = /^env:(\S+)$/.exec(value)?.[1];
  if (variable === undefined) return [key, key === 'force_path_style' ? value === 'true' : value];
  const found = process.env[variable];
  if (found) return [key, found];
  throw Object.assign(
    new GodwitError('SECRET_UNRESOLVED', `${key}: the variable ${variable} is not set in this shell.`),
    {
      fix: `Set it first: export ${variable}=…`,
    },
  );
}

export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw usage(`The file ${file} cannot be read: ${(error as Error).message}`);
  }
}

export async function list(kind: Kind, { config, out }: Context): Promise<undefined> {
  await using reached = await reach({ config, out });
  const all = await reached.client.list<EndpointView>(at(kind));
  for (const one of all) out.json({ kind, ...one });
  if (all.length === 0) out.text(`There is no ${kind} yet.`);
  else
    for (const line of table(
      all.map((one) => [one.name, one.type, one.connection ?? '', place(one.settings)]),
      ['NAME', 'TYPE', 'CONNECTION', 'WHERE'],
    ))
      out.text(line);
}

const place = (settings: EndpointView['settings']): string => {
  const {
    host,
    port,
    db_name: database,
    s3_bucket_name: bucket,
    path,
    endpoint,
  } = settings as Record<string, string | undefined>;
  if (path) return String(path);
  if (bucket) return `s3://${bucket}${endpoint ? ` at ${endpoint}` : ''}`;
  return host ? `${host}${port ? `:${port}` : ''}${database ? `/${database}` : ''}` : (database ?? '');
};

type Explained = { readonly setting: string; readonly value: unknown; readonly from: string; readonly secret: boolean };

/** Effective settings; of a source or target with the level that set each. */
export async function show(kind: Kind, { config, out }: Context, name = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  const { client } = reached;
  const one = await client.get<EndpointView>(at(kind, name));
  const own = Object.entries(one.settings).map(
    ([setting, value]): Explained => ({ setting, value, from: kind, secret: false }),
  );
  const hidden = (one.secretNames ?? []).map(
    (setting): Explained => ({ setting, value: '***', from: kind, secret: true }),
  );
  const settings =
    kind === 'connection'
      ? [...own, ...hidden]
      : (await client.get<{ settings: Explained[] }>(`${at(kind, name)}/explain`)).settings;
  out.json({ kind, ...one, effective: settings });
  out.text(`${kind} ${one.name} (${one.type})${one.connection ? ` on connection ${one.connection}` : ''}`);
  const rows = settings.map(({ setting, value, from }) => [
    `  ${setting}`,
    typeof value === 'string' ? value : JSON.stringify(value),
    from === kind ? '' : `from ${from}`,
  ]);
  for (const line of table(rows, ['  SETTING', 'VALUE', ''])) out.text(line);
}

/** Exit 1 when a check fails. */
export async function test(kind: Kind, { config, out }: Context, name = ''): Promise<number> {
  await using reached = await reach({ config, out });
  const { checks } = await reached.client.post<{ checks: CheckView[] }>(`${at(kind, name)}/test`, {});
  showChecks(checks, out);
  return checks.some((check) => check.outcome === 'fail') ? exits.failed : exits.succeeded;
}

export function showChecks(checks: readonly CheckView[], out: Output): void {
  const paint = paintOf(out);
  const marks = { pass: paint('pass', 'green'), warn: paint('warn', 'yellow'), fail: paint('fail', 'red') };
  for (const check of checks) {
    out.json({ type: 'check', ...check });
    out.text(`${marks[check.outcome]}  ${check.name}: ${check.detail}`);
    if (check.fix && check.outcome !== 'pass') out.text(`      what to do: ${check.fix}`);
  }
}

export async function remove(kind: Kind, { config, out }: Context, name = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  await reached.client.delete(at(kind, name));
  out.text(`Removed ${kind} ${name}.`);
  out.json({ type: 'removed', kind, name });
}
