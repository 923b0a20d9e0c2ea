/**
 * The settings of a `pgsql` connection, source or target, as the mapping writes them, and the one resolved form the
 * connector works with. Several spellings are accepted (`db_name` and `database`, `username` and `user`, a URL or its
 * parts); `normalise` makes one of them, so that a source can override single settings of its connection.
 */
import { z } from 'zod';
import { GodwitError } from '../../errors.ts';

export const sslmodes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslmodes)[number];

const text = z.string().min(1);
/** Setting an environment variable to nothing means it is not set. */
const optionalText = z.string().optional();

export const settingsSchema = z.strictObject({
  url: text.optional().describe('`host`, `host:port`, `host:port/database` or `postgresql://user@host:port/database`'),
  host: text.optional().describe('Host name, address, or the folder of a Unix socket'),
  port: z.coerce.number().int().min(1).max(65535).optional().describe('Default 5432'),
  db_name: text.optional().describe('Database'),
  database: text.optional().describe('The same as `db_name`'),
  username: optionalText.describe('User name'),
  user: optionalText.describe('The same as `username`'),
  password: optionalText.describe('Password, or a reference to one (`env:NAME`, `file:NAME`)'),
  schema: text.optional().describe('Default schema: of tables named without one (source), to write to (target)'),
  table: text.optional().describe('Of a saved target: name of its tables, default `{table}`'),
  sslmode: z.enum(sslmodes).optional().describe('As in libpq; default `prefer`'),
  ssl_ca: text.optional().describe("PEM text of the certificate authority that signed the server's certificate"),
  ssl_cert: text.optional().describe('PEM text of the client certificate'),
  ssl_key: text.optional().describe("PEM text of the client certificate's key"),
  connect_timeout: z.coerce.number().min(0.1).max(600).optional().describe('Seconds; default 10'),
});
export type PostgresSettings = z.infer<typeof settingsSchema>;

/** Settings whose values are sealed and never shown. */
export const secretKeys = ['password', 'ssl_key'] as const;

/** The stored form: no URL, one spelling per setting. */
export type NormalSettings = Omit<PostgresSettings, 'url' | 'database' | 'user'>;

/** What a session needs, with defaults filled in. Secrets are functions: printing or serialising shows none. */
export type PostgresAddress = {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password?: () => string;
  readonly schema?: string;
  readonly sslmode: SslMode;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: () => string;
  readonly connectSeconds: number;
};

const wrong = (message: string): GodwitError => new GodwitError('SETTINGS_INVALID', message);

/** Parses unknown input. Throws SETTINGS_INVALID naming each wrong setting; never quotes a value. */
export function parseSettings(input: unknown): PostgresSettings {
  const parsed = settingsSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw wrong(parsed.error.issues.map((issue) => `${issue.path.join('.') || 'settings'}: ${issue.message}`).join('; '));
}

/**
 * One spelling per setting, and no secret but under its own key: a password inside the URL becomes `password`.
 * Idempotent. A setting given by itself wins over the same one inside the URL.
 */
export function normalise(settings: PostgresSettings): NormalSettings {
  const { url, database, user, ...rest } = settings;
  const named = defined({ ...rest, db_name: rest.db_name ?? database, username: rest.username || user });
  return defined({ ...(url === undefined ? {} : fromUrl(url)), ...named });
}

/** Throws SETTINGS_INVALID when something needed is missing. References must have been resolved before. */
export function resolve(input: PostgresSettings): PostgresAddress {
  const s = normalise(parseSettings(input));
  const { password, ssl_key: key } = s;
  if (!s.host) throw wrong('url (or host) is missing.');
  const username = s.username;
  if (!username) throw wrong('username is missing.');
  return {
    host: s.host,
    port: s.port ?? 5432,
    database: s.db_name ?? username,
    user: username,
    password: password ? () => password : undefined,
    schema: s.schema,
    sslmode: s.sslmode ?? 'prefer',
    ca: s.ssl_ca,
    cert: s.ssl_cert,
    key: key ? () => key : undefined,
    connectSeconds: s.connect_timeout ?? 10,
  };
}

const defined = <T extends object>(object: T): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== '')) as T;

/** `host:port/database` (the manual's form), or a libpq URL. Throws without quoting the URL: it may hold a password. */
function fromUrl(url: string): NormalSettings {
  const full = /^postgres(ql)?:\/\//i.test(url) ? url : `postgresql://${url}`;
  // The scheme is swapped for one whose URLs are parsed strictly (ports, IPv6). An empty host (`user@/db?host=/tmp`)
  // is legal here only.
  const emptyHost = /^[^/]*\/\/(?:[^@/]*@)?(?=[/?]|$)/.exec(full);
  const parseable = emptyHost ? `${emptyHost[0]}socket${full.slice(emptyHost[0].length)}` : full;
  let parsed: URL;
  try {
    parsed = new URL(parseable.replace(/^[^:]+:/, 'http:'));
  } catch {
    throw wrong('url: not of the form host:port/database or postgresql://user@host:port/database.');
  }
  const port = portOf(parseable, parsed);
  const settings: Record<string, unknown> = {
    host: emptyHost ? undefined : decode(parsed.hostname).replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? undefined : Number(port),
    db_name: decode(parsed.pathname.slice(1)) || undefined,
    username: decode(parsed.username) || undefined,
    password: decode(parsed.password) || undefined,
  };
  for (const [key, value] of parsed.searchParams) {
    const name = urlParameters[key];
    if (name === undefined) throw wrong(`url: the parameter ${key} is not known.`);
    if (name === 'path')
      throw wrong(`url: ${key} names a file; give the PEM text as ${key.replace('sslroot', 'ssl_ca:')}`);
    if (name !== 'ignored') settings[name] = value;
  }
  return normalise(parseSettings(defined(settings)));
}

/** `URL` drops a port equal to the scheme's default (80). */
const portOf = (text: string, parsed: URL): string =>
  parsed.port || (/^[^/]*\/\/(?:[^@/?]*@)?(?:\[[^\]]*\]|[^:/?]*):80(?=[/?]|$)/.test(text) ? '80' : '');

/** Parameters of a libpq URL: the setting each one is. */
const urlParameters: Readonly<Record<string, string>> = {
  host: 'host',
  port: 'port',
  dbname: 'db_name',
  user: 'username',
  password: 'password',
  sslmode: 'sslmode',
  schema: 'schema',
  connect_timeout: 'connect_timeout',
  sslrootcert: 'path',
  sslcert: 'path',
  sslkey: 'path',
  application_name: 'ignored',
  channel_binding: 'ignored',
  target_session_attrs: 'ignored',
};

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};
