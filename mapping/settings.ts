/**
 * Settings of an installation, as they stand in the environment, in GODWIT_HOME/settings.yaml and in the API; with the names
 * of the mapping manual's settings page, so that who looks for one of those finds it.
 */
import { z } from 'zod';
import { GodwitError } from '../errors.ts';
import { isZone } from '../schedules/zone.ts';
import type { NotifyRules } from './document.ts';
import { didYouMean, pathText } from './problems.ts';

const ends = ['succeeded', 'partial', 'failed', 'canceled', 'skipped'] as const;
const words = [...ends, 'completion', 'failure'] as const;
const word = z.enum(words, { error: `expected one of ${words.join(', ')}` });
const on = z.union([z.boolean(), word, z.array(word)], {
  error: `expected true, false, or a list of ${words.join(', ')}`,
});

/** `true`: whatever a run came to by itself. What somebody canceled, or what never began, is told only when asked for. */
const always = ['succeeded', 'partial', 'failed'] as const satisfies NotifyRules['on'];
const meaning = { completion: ['succeeded', 'partial'], failure: ['failed', 'partial'] } as const;

/** Names of channels: they stand in paths and on command lines. */
export const channelName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'expected letters, digits, ".", "_" or "-" (at most 63)');

export const notifyInput = z.union(
  [on, z.strictObject({ on: on.default(true), channels: z.array(channelName).optional() })],
  {
    error: `expected true, false, a list of ${words.join(', ')}, or a map with on and channels`,
  },
);

export function notifyRules(input: z.infer<typeof notifyInput>): NotifyRules {
  const whole = typeof input === 'object' && !Array.isArray(input) ? input : { on: input };
  const { on: wish } = whole;
  const channels = 'channels' in whole ? whole.channels : undefined;
  const wanted = typeof wish === 'boolean' ? (wish ? always : []) : [wish].flat().flatMap(spelt);
  return { on: ends.filter((end) => (wanted as readonly string[]).includes(end)), ...(channels ? { channels } : {}) };
}
const spelt = (one: (typeof words)[number]): readonly (typeof ends)[number][] =>
  one === 'completion' || one === 'failure' ? meaning[one] : [one];

/** `6:00`, `06:00`, `06:00:30`, as `HH:MM:SS`. */
export const timeOfDay = z
  .string()
  .regex(/^([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?$/, 'expected a time of day, "HH:MM" or "HH:MM:SS"')
  .transform((text) => (text.split(':').length === 2 ? `${text}:00` : text).padStart(8, '0'));
export const cutOffTime = timeOfDay.nullable();

export const timezone = z.string().refine(isZone, 'expected an IANA time zone such as Asia/Kolkata');
const text = z.string().min(1);
/** A secret may be a reference: `env:NAME`, `file:NAME`. */
const isReference = (value: string) => /^(env|file):/.test(value);
const url = text.refine(
  (value) => isReference(value) || (URL.canParse(value) && /^https?:$/.test(new URL(value).protocol)),
  'expected an http or https URL',
);
const addresses = z.union([text, z.array(text).min(1)], { error: 'expected an address or a list of addresses' });

const slack = z
  .strictObject({ token: text, slack_token: text, channel: text, webhook_url: url, api_url: url })
  .partial();
const webhook = z.strictObject({ url, secret: text.optional() });
const email = z.strictObject({
  host: text,
  port: z.coerce.number().int().min(1).max(65535).optional(),
  tls: z.enum(['starttls', 'implicit', 'none']).optional(),
  username: text.optional(),
  password: text.optional(),
  from: text,
  to: addresses,
});

/** Kinds of channels, each with the settings that are sealed and never shown again. */
export const channelTypes = {
  slack: { schema: slack, secrets: ['token', 'webhook_url'] },
  webhook: { schema: webhook, secrets: ['url', 'secret'] },
  email: { schema: email, secrets: ['password'] },
} as const satisfies Record<string, { schema: z.ZodObject; secrets: readonly string[] }>;
export type ChannelType = keyof typeof channelTypes;

/** With its secrets apart: values, or references that the worker resolves. */
export type Channel = {
  readonly type: ChannelType;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, string>>;
};

/** Throws SETTINGS_INVALID naming each wrong setting; never quotes a value. `kept`: secrets that are there already. */
export function readChannel(place: string, given: unknown, kept: readonly string[] = []): Channel {
  const wrong = (path: string, message: string) => {
    const at = [place, path].filter(Boolean).join('.');
    return Object.assign(new GodwitError('SETTINGS_INVALID', `${at}: ${message}`), {
      problems: [{ path: at, message }],
    });
  };
  if (given === null || typeof given !== 'object' || Array.isArray(given)) throw wrong('', 'expected a map with type');
  const { type, ...rest } = given as Record<string, unknown>;
  if (typeof type !== 'string' || !(type in channelTypes)) {
    throw wrong('type', `expected one of ${Object.keys(channelTypes).join(', ')}`);
  }
  const kind = type as ChannelType;
  const { schema, secrets: sealed } = channelTypes[kind];
  const names: readonly string[] = sealed;
  // What is sealed already need not be given again.
  const optional = Object.fromEntries(kept.filter((name) => name in schema.shape).map((name) => [name, true]));
  const parsed = (schema as z.ZodObject).partial(optional as Record<string, true>).safeParse(rest);
  if (!parsed.success) {
    const { issues } = parsed.error;
    const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
    if (issue?.code === 'unrecognized_keys') {
      const [key = ''] = issue.keys;
      throw wrong(key, `unknown setting${didYouMean(key, Object.keys(schema.shape))}`);
    }
    const path = issue?.path ?? [];
    const absent = path.length === 1 && rest[String(path[0])] === undefined;
    throw wrong(pathText(path), absent ? 'is required' : (issue?.message ?? 'wrong').replace(/^Invalid input: /, ''));
  }
  const { slack_token: token, ...all } = parsed.data as Record<string, unknown>;
  const settings: Record<string, unknown> = { ...all, ...(token === undefined ? {} : { token }) };
  if (kind === 'slack') {
    const has = (name: string) => settings[name] !== undefined || kept.includes(name);
    if (has('webhook_url') === has('token')) throw wrong('', 'slack needs either token and channel, or webhook_url');
    if (has('token') && settings.channel === undefined) throw wrong('channel', 'is required beside token');
  }
  const plain = Object.entries(settings).filter(([name]) => !names.includes(name));
  const secret = Object.entries(settings).filter(([name]) => names.includes(name)) as [string, string][];
  const where = kind === 'webhook' ? settings.url : settings.webhook_url;
  const host = typeof where === 'string' && !isReference(where) ? { host: new URL(where).host } : {};
  return {
    type: kind,
    settings: { ...(kind === 'email' ? {} : host), ...Object.fromEntries(plain) },
    secrets: Object.fromEntries(secret),
  };
}

/** `smtp://user:password@host:587`, `smtps://…`, as settings of an email channel. */
export function readSmtpUrl(value: string): Record<string, unknown> {
  if (!URL.canParse(value) || !/^smtps?:$/.test(new URL(value).protocol)) {
    throw new GodwitError('SETTINGS_INVALID', 'GODWIT_SMTP_URL: expected smtp://user:password@host:port, or smtps://…');
  }
  const { protocol, hostname, port, username, password } = new URL(value);
  return {
    host: hostname,
    ...(port ? { port: Number(port) } : {}),
    ...(protocol === 'smtps:' ? { tls: 'implicit' } : {}),
    ...(username ? { username: decodeURIComponent(username) } : {}),
    ...(password ? { password: decodeURIComponent(password) } : {}),
  };
}

/** How long, and how many of each job, runs are remembered. */
const keep = z.union(
  [z.null(), z.literal('none').transform(() => null), z.coerce.number().int().min(1).max(1_000_000)],
  { error: 'expected a whole number of at least 1, or none' },
);

const store = z.record(z.string(), z.unknown());
/** GODWIT_HOME/settings.yaml. The manual's keys are taken as they are; those of its stores mean nothing here. */
export const settingsFile = z.strictObject(
  {
    timezone: timezone.optional(),
    cut_off_time: cutOffTime.optional(),
    notify: notifyInput.optional(),
    keep_runs_days: keep.optional(),
    keep_runs: keep.optional(),
    channels: z.record(channelName, z.unknown()).default({}),
    slack_notif: z.strictObject({ slack_token: text, channel: text }).partial().optional(),
    fastapi_server: z.boolean().optional(),
    encryption_store: store.optional(),
    dashboard_store: store.optional(),
  },
  { error: (issue) => (issue.code === 'unrecognized_keys' ? `unknown: ${issue.keys.join(', ')}` : undefined) },
);
export type SettingsFile = z.infer<typeof settingsFile>;

/** Settings that the API sets, each by its own schema. */
export const settingSchemas = {
  timezone,
  cut_off_time: cutOffTime,
  notify: notifyInput,
  keep_runs_days: keep,
  keep_runs: keep,
} as const;
export type SettingName = keyof typeof settingSchemas;
export const settingNames = Object.keys(settingSchemas) as SettingName[];

/** What the manual's settings page has and Godwit has elsewhere. */
export const elsewhere: Readonly<Record<string, string>> = {
  fastapi_server:
    'Not needed: the API runs with `godwit up` or `godwit api`, and schedules are kept by Temporal whether or not it does.',
  encryption_store:
    "Godwit's own PostgreSQL (DATABASE_URL; without it an embedded one in GODWIT_HOME) instead of a MongoDB store: jobs, runs and their state. What an incremental table remembers between runs stands beside the data on its target.",
  dashboard_store:
    "Godwit's own PostgreSQL (DATABASE_URL; without it an embedded one in GODWIT_HOME) instead of a MongoDB store: `godwit runs`, `godwit show RUN` and GET /api/runs show the history of runs and tables.",
  slack_notif:
    'A channel of type slack: `godwit notify add slack -t slack token=env:SLACK_TOKEN channel=#data`; GODWIT_SLACK_TOKEN and GODWIT_SLACK_CHANNEL; or slack_notif in settings.yaml as the manual has it.',
};
