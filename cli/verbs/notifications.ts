import { GodwitError } from '../../errors.ts';
import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { table, usage } from '../output.ts';
import { reach } from '../reach.ts';
import type { CheckView } from '../views.ts';
import { readText, showChecks } from './endpoints.ts';

type ChannelView = {
  readonly name: string;
  readonly type: string;
  readonly from: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly secretNames: readonly string[];
};

const at = (name: string): string => `/api/channels/${part(name)}`;

/** `key=value` pairs; `env:NAME` takes a variable of this shell, `@file` a file's text. */
export async function add({ config, out, options }: Context, name = '', ...pairs: string[]): Promise<undefined> {
  const { type } = options as { type?: string };
  if (!type) throw usage('Say what it is: --type slack, webhook or email.');
  const settings = Object.fromEntries(pairs.map(setting));
  await using reached = await reach({ config, out });
  const saved = await reached.client.put<ChannelView>(at(name), { type, settings });
  out.json({ kind: 'channel', ...saved });
  out.text(
    saved.from === 'api'
      ? `Saved the channel ${name}. Try it: godwit notify test ${name}`
      : `Saved; but the ${saved.from === 'file' ? 'settings file' : saved.from} has a channel ${name}, which comes first.`,
  );
}

function setting(pair: string): [string, string | string[]] {
  const equals = pair.indexOf('=');
  if (equals < 1) throw usage(`"${pair}" is no setting; write key=value.`);
  const key = pair.slice(0, equals);
  const value = pair.slice(equals + 1);
  if (key === 'to') return [key, value.split(',').map((one) => one.trim())];
  if (value.startsWith('@') && key !== 'channel') return [key, readText(value.slice(1)).trim()];
  const variable = /^env:(\S+)$/.exec(value)?.[1];
  if (variable === undefined) return [key, value];
  const found = process.env[variable];
  if (found) return [key, found];
  throw new GodwitError('SECRET_UNRESOLVED', `${key}: the variable ${variable} is not set in this shell.`);
}

/** Where it goes, as far as that is no secret. */
const place = ({ settings }: ChannelView) =>
  [settings.channel, settings.host, [settings.to ?? []].flat().join(', ')].filter(Boolean).map(String).join('  ');

export async function list({ config, out }: Context): Promise<undefined> {
  await using reached = await reach({ config, out });
  const { items } = await reached.client.get<{ items: ChannelView[] }>('/api/channels');
  for (const one of items) out.json({ kind: 'channel', ...one });
  if (items.length === 0) out.text('There is no channel yet: godwit notify add NAME -t slack|webhook|email …');
  else
    for (const line of table(
      items.map((one) => [
        one.name,
        one.type,
        one.from,
        place(one),
        one.secretNames.map((name) => `${name}=***`).join(' '),
      ]),
      ['CHANNEL', 'TYPE', 'FROM', 'WHERE', 'SECRETS'],
    ))
      out.text(line);
}

export async function remove({ config, out }: Context, name = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  await reached.client.delete(at(name));
  out.json({ type: 'removed', kind: 'channel', name });
  out.text(`Removed the channel ${name}.`);
}

/** Exit 1 when it was not taken. */
export async function test({ config, out }: Context, name = ''): Promise<number> {
  await using reached = await reach({ config, out });
  const { checks } = await reached.client.post<{ checks: CheckView[] }>(`${at(name)}/test`, {});
  showChecks(checks, out);
  return checks.some((check) => check.outcome === 'fail') ? exits.failed : exits.succeeded;
}

type NotificationView = {
  readonly id: string;
  readonly run: string;
  readonly event: string;
  readonly channel: string;
  readonly status: string;
  readonly attempts: number;
  readonly failure: { readonly code: string; readonly message: string } | null;
  readonly createdAt: string;
};

/** What was told of runs, and what could not be. */
export async function log({ config, out, options }: Context, job?: string): Promise<undefined> {
  const { status, limit = '20' } = options as { status?: string; limit?: string };
  const most = Number(limit);
  if (!Number.isInteger(most) || most < 1) throw usage('--limit is a whole number of at least 1.');
  await using reached = await reach({ config, out });
  const items = await reached.client.list<NotificationView>('/api/notifications', { job, status }, most);
  for (const one of items) out.json({ type: 'notification', ...one });
  if (items.length === 0)
    out.text(status === undefined ? 'Nothing was told yet.' : `Nothing that was told is ${status}.`);
  else
    for (const line of table(
      items.map((one) => [
        one.createdAt.replace('T', ' ').slice(0, 19),
        one.run,
        one.event,
        one.channel,
        one.status,
        one.attempts,
        one.failure ? `${one.failure.code}: ${one.failure.message}` : '',
        one.status === 'failed' ? one.id : '',
      ]),
      ['TIME', 'RUN', 'EVENT', 'CHANNEL', 'STATUS', 'TRIES', '', ''],
    ))
      out.text(line);
}

export async function retry({ config, out }: Context, id = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  await reached.client.post(`/api/notifications/${part(id)}/retry`, {});
  out.json({ type: 'retried', kind: 'notification', id });
  out.text('It is sent again.');
}
