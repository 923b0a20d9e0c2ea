/** Settings of the installation: the environment, then GODWIT_HOME/settings.yaml, then what the API stored, then defaults. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { eq, sql } from 'drizzle-orm';
import type { Config } from '../config.ts';
import { GodwitError } from '../errors.ts';
import type { NotifyRules } from '../mapping/document.ts';
import { pathText } from '../mapping/problems.ts';
import { readText } from '../mapping/read.ts';
import {
  type Channel,
  type ChannelType,
  cutOffTime,
  elsewhere,
  notifyInput,
  notifyRules,
  readChannel,
  readSmtpUrl,
  type SettingName,
  settingNames,
  settingSchemas,
  settingsFile,
} from '../mapping/settings.ts';
import type { Sealer } from '../secrets/seal.ts';
import { changedSecrets, openSecrets } from './connections.ts';
import type { Executor } from './open.ts';
import { settings } from './schema.ts';

export type SettingsPlace = Pick<Config, 'home' | 'given'>;
export type Origin = 'environment' | 'file' | 'api' | 'default';

type Secrets = { readonly open: Readonly<Record<string, string>> } | { readonly sealed: Buffer | null };
export type ChannelEntry = Pick<Channel, 'type' | 'settings'> & {
  readonly name: string;
  readonly from: Origin;
  readonly secretNames: readonly string[];
  readonly secrets: Secrets;
};

export type InstallationSettings = {
  /** IANA name; of jobs that name none. */
  readonly timezone: string;
  /** `HH:MM:SS` in the job's zone. */
  readonly cutOffTime: string | null;
  readonly notify: NotifyRules;
  /** Runs older than so many days, and beyond the latest so many of each job, are forgotten; null: none is. */
  readonly keepRunsDays: number | null;
  readonly keepRuns: number | null;
  readonly channels: ReadonlyMap<string, ChannelEntry>;
};

type Layer = {
  readonly from: Origin;
  readonly values: Partial<Record<SettingName, unknown>>;
  readonly channels: readonly ChannelEntry[];
  /** Why the file is not taken as it is now. */
  readonly problem?: GodwitError;
};

const defaults = {
  timezone: 'UTC',
  cut_off_time: null,
  notify: false,
  keep_runs_days: null,
  keep_runs: null,
} as const satisfies Record<SettingName, unknown>;

/** The one place that says what holds for a job that says nothing itself. */
export async function settingsOf(db: Executor, place: SettingsPlace): Promise<InstallationSettings> {
  const layers = await layersOf(db, place);
  const value = (name: SettingName) => effective(layers, name).value;
  return {
    timezone: value('timezone') as string,
    cutOffTime: value('cut_off_time') as string | null,
    notify: notifyRules(notifyInput.parse(value('notify'))),
    keepRunsDays: value('keep_runs_days') as number | null,
    keepRuns: value('keep_runs') as number | null,
    channels: channelsOf(layers),
  };
}

const layersOf = async (db: Executor, place: SettingsPlace): Promise<Layer[]> => [
  environmentLayer(place.given),
  fileLayer(place.home),
  await storedLayer(db),
];

function effective(layers: readonly Layer[], name: SettingName): { value: unknown; from: Origin } {
  const layer = layers.find(({ values }) => values[name] !== undefined);
  return layer ? { value: layer.values[name], from: layer.from } : { value: defaults[name], from: 'default' };
}

/** By name; a nearer layer's channel hides one of the same name. */
const channelsOf = (layers: readonly Layer[]): Map<string, ChannelEntry> =>
  new Map(layers.toReversed().flatMap(({ channels }) => channels.map((one) => [one.name, one] as const)));

const clear = (name: string, from: Origin, { type, settings: plain, secrets }: Channel): ChannelEntry => ({
  name,
  from,
  type,
  settings: plain,
  secretNames: Object.keys(secrets).sort(),
  secrets: { open: secrets },
});

/** Throws SETTINGS_INVALID. */
function environmentLayer(given: SettingsPlace['given']): Layer {
  const { timezone, slack, webhook, email } = given;
  const words = given.notify?.split(',').map((one) => one.trim());
  const notify = words && (words.length === 1 && /^(true|false)$/.test(words[0] ?? '') ? words[0] === 'true' : words);
  const parsed = notify === undefined ? undefined : notifyInput.safeParse(notify);
  if (parsed && !parsed.success) {
    throw new GodwitError('SETTINGS_INVALID', `GODWIT_NOTIFY: ${parsed.error.issues[0]?.message ?? 'wrong'}`);
  }
  const cut = given.cutOffTime;
  const channels = [
    ...(slack.token || slack.webhook_url
      ? [clear('slack', 'environment', readChannel('GODWIT_SLACK', { type: 'slack', ...set(slack) }))]
      : []),
    ...(webhook.url
      ? [clear('webhook', 'environment', readChannel('GODWIT_WEBHOOK', { type: 'webhook', ...set(webhook) }))]
      : []),
    ...(email.smtp
      ? [
          clear(
            'email',
            'environment',
            readChannel('GODWIT_SMTP_URL, GODWIT_EMAIL', {
              type: 'email',
              ...readSmtpUrl(email.smtp),
              ...(email.from ? { from: email.from } : {}),
              ...(email.to ? { to: email.to.split(',').map((one) => one.trim()) } : {}),
            }),
          ),
        ]
      : []),
  ];
  return {
    from: 'environment',
    values: {
      ...(timezone === undefined ? {} : { timezone }),
      ...(cut === undefined ? {} : { cut_off_time: cut === 'none' ? null : cutOffTime.parse(cut) }),
      ...(parsed ? { notify: parsed.data } : {}),
    },
    channels,
  };
}
const set = (values: Readonly<Record<string, string | undefined>>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

export const settingsPath = (home: string): string => join(home, 'settings.yaml');
const read = new Map<string, { readonly stamp: string; readonly layer: Layer }>();

/** Read again when it changed. While it is wrong, its last good state holds: somebody is at work on it, and runs go on. */
function fileLayer(home: string): Layer {
  const path = settingsPath(home);
  const none = { from: 'file', values: {}, channels: [] } as const;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) return none;
  const stamp = `${stat.mtimeMs} ${stat.size}`;
  const before = read.get(path);
  if (before?.stamp === stamp) return before.layer;
  let layer: Layer;
  try {
    layer = parseFile(path, readFileSync(path, 'utf8'));
  } catch (error) {
    layer = { ...(before?.layer ?? none), problem: new GodwitError('SETTINGS_INVALID', (error as Error).message) };
  }
  read.set(path, { stamp, layer });
  return layer;
}

/** For who starts. Throws SETTINGS_INVALID for what is wrong in the environment or in the file. */
export function checkSettings({ given, home }: SettingsPlace): void {
  environmentLayer(given);
  const { problem } = fileLayer(home);
  if (problem) throw problem;
}

function parseFile(path: string, text: string): Layer {
  const { value } = readText(text, path);
  const parsed = settingsFile.safeParse(value ?? {});
  if (!parsed.success) {
    const places = parsed.error.issues.map((issue) => {
      const at = pathText(issue.path);
      return `${at ? `${at}: ` : ''}${issue.message.replace(/^Invalid input: /, '')}`;
    });
    throw new GodwitError('SETTINGS_INVALID', `${path}: ${places.join('; ')}`);
  }
  const { timezone, cut_off_time, notify, keep_runs_days, keep_runs, channels, slack_notif: slack } = parsed.data;
  const named = slack && Object.keys(slack).length > 0 ? { slack: { type: 'slack', ...slack }, ...channels } : channels;
  return {
    from: 'file',
    values: {
      ...(timezone === undefined ? {} : { timezone }),
      ...(cut_off_time === undefined ? {} : { cut_off_time }),
      ...(notify === undefined ? {} : { notify }),
      ...(keep_runs_days === undefined ? {} : { keep_runs_days }),
      ...(keep_runs === undefined ? {} : { keep_runs }),
    },
    channels: Object.entries(named).map(([name, given]) => clear(name, 'file', readChannel(`channels.${name}`, given))),
  };
}

const channelPrefix = 'channel/';
const channelPurpose = (name: string) => `setting/${channelPrefix}${name}`;
type StoredChannel = { readonly type: ChannelType; readonly settings: Channel['settings'] };

async function storedLayer(db: Executor): Promise<Layer> {
  const rows = await db.select().from(settings).orderBy(settings.name);
  return {
    from: 'api',
    values: Object.fromEntries(rows.flatMap(({ name, value }) => (isSetting(name) ? [[name, value]] : []))),
    channels: rows.flatMap((row): ChannelEntry[] => {
      if (!row.name.startsWith(channelPrefix)) return [];
      const { type, settings: plain } = row.value as StoredChannel;
      const name = row.name.slice(channelPrefix.length);
      return [
        { name, from: 'api', type, settings: plain, secretNames: row.secretNames, secrets: { sealed: row.secrets } },
      ];
    }),
  };
}

const isSetting = (name: string): name is SettingName => (settingNames as readonly string[]).includes(name);

/** In the worker: the channel with its secrets, references unresolved. Throws NOT_FOUND. */
export async function openChannel(
  db: Executor,
  sealer: Sealer,
  { place, name }: { readonly place: SettingsPlace; readonly name: string },
): Promise<Channel> {
  const { channels } = await settingsOf(db, place);
  const found = channels.get(name);
  if (!found) throw noChannel(name, [...channels.keys()]);
  const { type, settings: plain, secrets } = found;
  return {
    type,
    settings: plain,
    secrets: 'open' in secrets ? secrets.open : openSecrets(sealer, channelPurpose(name), secrets.sealed),
  };
}

export const noChannel = (name: string, known: readonly string[]): GodwitError =>
  new GodwitError(
    'NOT_FOUND',
    `There is no channel "${name}"; there ${known.length === 0 ? 'is none yet' : `are ${known.join(', ')}`}.`,
  );

export type Explained = {
  readonly name: string;
  readonly value: unknown;
  readonly from: Origin | 'elsewhere';
  /** What the API stored, where something nearer holds instead. */
  readonly stored?: unknown;
  readonly note?: string;
};

/** Each setting with the level that set it, and the manual's other names with where they are. */
export async function explainSettings(db: Executor, place: SettingsPlace): Promise<Explained[]> {
  const layers = await layersOf(db, place);
  const stored = layers.at(-1)?.values ?? {};
  const own = settingNames.map((name): Explained => {
    const { value, from } = effective(layers, name);
    return { name, value, from, ...(stored[name] !== undefined && from !== 'api' ? { stored: stored[name] } : {}) };
  });
  const wrong = layers.flatMap(({ problem }) =>
    problem ? [{ name: 'settings.yaml', value: null, from: 'file', note: problem.message } as const] : [],
  );
  const others = Object.entries(elsewhere).map(
    ([name, note]): Explained => ({ name, value: null, from: 'elsewhere', note }),
  );
  return [...own, ...wrong, ...others];
}

/** Throws SETTINGS_INVALID; NOT_FOUND for a name that is none, saying where the manual's other settings are. */
export async function changeSetting(
  db: Executor,
  { name, value, actor }: { readonly name: string; readonly value: unknown; readonly actor: string },
): Promise<void> {
  const known = settingNamed(name);
  const parsed = settingSchemas[known].safeParse(value);
  if (!parsed.success) {
    throw new GodwitError(
      'SETTINGS_INVALID',
      `${name}: ${(parsed.error.issues[0]?.message ?? 'wrong').replace(/^Invalid input: /, '')}`,
    );
  }
  await put(db, { name, value: parsed.data, actor });
}

export async function removeSetting(db: Executor, name: string): Promise<void> {
  await db.delete(settings).where(eq(settings.name, settingNamed(name)));
}

function settingNamed(name: string): SettingName {
  if (isSetting(name)) return name;
  const note = elsewhere[name];
  if (note) throw Object.assign(new GodwitError('SETTINGS_INVALID', `${name} is no setting of Godwit.`), { fix: note });
  throw new GodwitError('NOT_FOUND', `There is no setting "${name}"; there are ${settingNames.join(', ')}.`);
}

type Row = typeof settings.$inferInsert;
async function put(db: Executor, row: Omit<Row, 'updatedAt'>): Promise<void> {
  const { name, value, ...rest } = row;
  // JSON's null, which is a value: drizzle would write SQL's.
  const values = { ...rest, value: value === null ? sql`'null'::jsonb` : value, updatedAt: new Date() };
  await db
    .insert(settings)
    .values({ name, ...values })
    .onConflictDoUpdate({ target: settings.name, set: values });
}

/** Settings are replaced; secrets that are not given stay. Throws SETTINGS_INVALID. */
export async function saveChannel(
  db: Executor,
  sealer: Sealer,
  {
    name,
    given,
    actor,
  }: { readonly name: string; readonly given: Readonly<Record<string, unknown>>; readonly actor: string },
): Promise<void> {
  const key = channelPrefix + name;
  const [before] = await db.select().from(settings).where(eq(settings.name, key));
  const same = before && (before.value as StoredChannel).type === given.type;
  // Of another way to the same system nothing is kept.
  const kept = same
    ? before.secretNames.filter(
        (one) => !(given.webhook_url && one === 'token') && !(given.token && one === 'webhook_url'),
      )
    : [];
  const { type, settings: plain, secrets } = readChannel('', given, kept);
  const forgotten = (before?.secretNames ?? []).filter((one) => !kept.includes(one)).map((one) => [one, null] as const);
  const change = { ...Object.fromEntries(forgotten), ...secrets };
  const host =
    same && !('host' in plain) && type !== 'email' ? { host: (before.value as StoredChannel).settings.host } : {};
  const sealed = changedSecrets(sealer, channelPurpose(name), { envelope: before?.secrets ?? null, change });
  await put(db, { name: key, value: { type, settings: { ...host, ...plain } }, actor, ...sealed });
}

/** Throws NOT_FOUND, and CONFLICT for one that the environment or the file has. */
export async function removeChannel(db: Executor, place: SettingsPlace, name: string): Promise<void> {
  const gone = await db
    .delete(settings)
    .where(eq(settings.name, channelPrefix + name))
    .returning({ name: settings.name });
  if (gone.length > 0) return;
  const { channels } = await settingsOf(db, place);
  const found = channels.get(name);
  if (!found) throw noChannel(name, [...channels.keys()]);
  throw new GodwitError(
    'CONFLICT',
    `The channel "${name}" is set by the ${found.from === 'file' ? 'settings file' : 'environment'}: remove it there.`,
  );
}
