import { homedir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { GodwitError } from './errors.ts';
import { isZone } from './schedules/zone.ts';

/** The folder of the clone (or of the installed package). */
export const projectFolder = dirname(fileURLToPath(import.meta.url));

const port = z.coerce.number().int().min(0).max(65535);
const count = (min: number, max: number) => z.coerce.number().int().min(min).max(max);

/**
 * Every environment variable Godwit reads, parsed once. Temporal's own (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
 * `TEMPORAL_API_KEY`, `TEMPORAL_TLS_…`) are read by @temporalio/envconfig; only their presence is looked at here.
 */
const environment = z.object({
  GODWIT_HOME: z
    .string()
    .optional()
    .describe('Folder of the installation: data, keys, spool, logs. Default `.godwit` in the clone'),
  DATABASE_URL: z.string().optional().describe("Godwit's own PostgreSQL. Absent: an embedded one in GODWIT_HOME"),
  TEMPORAL_ADDRESS: z.string().optional().describe('Temporal server. Absent: an embedded dev server'),
  TEMPORAL_NAMESPACE: z.string().optional().describe('Temporal namespace. Default `default`'),
  TEMPORAL_CLI_PATH: z.string().optional().describe('The `temporal` program for the embedded dev server'),
  HOST: z
    .string()
    .default('127.0.0.1')
    .describe('Address the API listens on. Anything but loopback needs GODWIT_TOKEN'),
  PORT: port.default(8321).describe('Port of the API; 0 takes a free one'),
  GODWIT_URL: z.string().optional().describe('The API the CLI talks to'),
  GODWIT_TOKEN: z.string().optional().describe('Bearer token of the API'),
  GODWIT_KEY: z
    .string()
    .optional()
    .describe('Key-encryption key: 32 bytes in base64. Absent: a 0600 file in GODWIT_HOME'),
  GODWIT_ENV_ALLOW: z
    .string()
    .default('GODWIT_SECRET_*')
    .describe('Comma-separated patterns of variables that `env:` references may name in the worker'),
  GODWIT_FILE_ROOTS: z
    .string()
    .optional()
    .describe(
      'Folders below which file targets may lie, separated by `:`. Default: GODWIT_HOME/files and the working folder',
    ),
  GODWIT_SLOTS: count(1, 64).default(2).describe('Chunks one worker moves at once'),
  GODWIT_CHUNK_MB: count(1, 65536).default(256).describe('Aimed-at size of a chunk in MB of the source'),
  GODWIT_DUCKDB_MB: count(32, 65536).default(96).describe('Memory limit of DuckDB per slot'),
  GODWIT_CACHE: z.string().optional().describe('Cache of downloaded servers. Default `~/.cache/godwit`'),
  GODWIT_TIMEZONE: z
    .string()
    .optional()
    .refine((zone) => zone === undefined || isZone(zone), 'expected an IANA time zone such as Asia/Kolkata')
    .describe(
      'Time zone of jobs that name none, for schedules, cut-off times and bookmarks without a zone. Default `UTC`',
    ),
  GODWIT_CUT_OFF_TIME: z
    .string()
    .optional()
    .refine(
      (time) => time === undefined || /^(none|([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?)$/.test(time),
      'expected HH:MM, HH:MM:SS or none',
    )
    .describe("Time of day in the job's zone at which running tables are cut off, `HH:MM` or `none`. Default `none`"),
  GODWIT_NOTIFY: z
    .string()
    .optional()
    .describe(
      'Who sets it gets notifications of runs: `true`, `false`, or a comma-separated list of succeeded, partial, failed, canceled, skipped, completion, failure. Default `false`',
    ),
  GODWIT_SLACK_TOKEN: z.string().optional().describe('Bot token: makes the channel `slack`, with GODWIT_SLACK_CHANNEL'),
  GODWIT_SLACK_CHANNEL: z.string().optional().describe("Where the bot posts: a channel's name or id"),
  GODWIT_SLACK_WEBHOOK_URL: z.string().optional().describe('Instead of a token: an incoming webhook of Slack'),
  GODWIT_WEBHOOK_URL: z.string().optional().describe('Makes the channel `webhook`: notifications as signed JSON'),
  GODWIT_WEBHOOK_SECRET: z.string().optional().describe('Signs what goes to GODWIT_WEBHOOK_URL'),
  GODWIT_SMTP_URL: z
    .string()
    .optional()
    .describe('Makes the channel `email`: `smtp://user:password@host:587` or `smtps://…`'),
  GODWIT_EMAIL_FROM: z.string().optional().describe('Sender of the channel `email`'),
  GODWIT_EMAIL_TO: z.string().optional().describe('Receivers of the channel `email`, separated by commas'),
  GODWIT_LOG: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info').describe('Log level'),
  GODWIT_WORKER_SHUTDOWN_SECONDS: count(1, 3600).default(30).describe('Grace for a stopping worker to end its chunks'),
});

export type Config = ReturnType<typeof readConfig>;

/** Throws SETTINGS_INVALID naming each wrong variable. Unknown variables are not ours to judge. */
export function readConfig(env: NodeJS.ProcessEnv = process.env) {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const parsed = environment.safeParse(set);
  if (!parsed.success) {
    const places = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new GodwitError('SETTINGS_INVALID', `Wrong environment: ${places.join('; ')}`);
  }
  const e = parsed.data;
  const home = resolve(e.GODWIT_HOME ?? resolve(projectFolder, '.godwit'));
  return {
    home,
    databaseUrl: e.DATABASE_URL,
    temporal: { address: e.TEMPORAL_ADDRESS, namespace: e.TEMPORAL_NAMESPACE ?? 'default', cli: e.TEMPORAL_CLI_PATH },
    host: e.HOST,
    port: e.PORT,
    url: e.GODWIT_URL,
    token: e.GODWIT_TOKEN,
    key: e.GODWIT_KEY,
    envAllow: e.GODWIT_ENV_ALLOW.split(',').map((pattern) => pattern.trim()),
    fileRoots: e.GODWIT_FILE_ROOTS?.split(':').map((folder) => resolve(folder)) ?? [
      resolve(home, 'files'),
      process.cwd(),
    ],
    slots: e.GODWIT_SLOTS,
    chunkBytes: e.GODWIT_CHUNK_MB * 1024 * 1024,
    duckdbBytes: e.GODWIT_DUCKDB_MB * 1024 * 1024,
    cache: resolve(e.GODWIT_CACHE ?? resolve(homedir(), '.cache/godwit')),
    spool: resolve(home, 'spool'),
    logLevel: e.GODWIT_LOG,
    timezone: e.GODWIT_TIMEZONE ?? 'UTC',
    /** Settings of the installation as far as the environment gives them: db/settings.ts says which hold. */
    given: {
      timezone: e.GODWIT_TIMEZONE,
      cutOffTime: e.GODWIT_CUT_OFF_TIME,
      notify: e.GODWIT_NOTIFY,
      slack: {
        token: e.GODWIT_SLACK_TOKEN,
        channel: e.GODWIT_SLACK_CHANNEL,
        webhook_url: e.GODWIT_SLACK_WEBHOOK_URL,
      },
      webhook: { url: e.GODWIT_WEBHOOK_URL, secret: e.GODWIT_WEBHOOK_SECRET },
      email: { smtp: e.GODWIT_SMTP_URL, from: e.GODWIT_EMAIL_FROM, to: e.GODWIT_EMAIL_TO },
    },
    shutdownSeconds: e.GODWIT_WORKER_SHUTDOWN_SECONDS,
  } as const;
}

/** For `godwit help environment` and the docs: name, what it is, default. */
export const environmentDocs = (): { name: string; means: string }[] =>
  Object.entries(environment.shape).map(([name, schema]) => ({ name, means: schema.description ?? '' }));
