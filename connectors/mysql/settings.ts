/**
 * The settings of a `mysql` or `mariadb` connection, source or target, as the mapping writes them, and the one resolved
 * form the connector works with. Several spellings are accepted (`db_name` and `database`, `username` and `user`, a URL
 * or its parts); `normalise` makes one of them, so that a source can override single settings of its connection.
 */
import { z } from 'zod';
import { GodwitError } from '../../errors.ts';

const sslmodes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslmodes)[number];

const text = z.string().min(1);
/** Setting an environment variable to nothing means it is not set. */
const optionalText = z.string().optional();

export const settingsSchema = z.strictObject({
  url: text.optional().describe('`host`, `host:port`, `host:port/database` or `mysql://user@host:port/database`'),
  host: text.optional().describe('Host name, address, or the path of a Unix socket'),
  port: z.coerce.number().int().min(1).max(65535).optional().describe('Default 3306'),
  db_name: text.optional().describe('Database'),
  database: text.optional().describe('The same as `db_name`'),
  username: optionalText.describe('User name'),
  user: optionalText.describe('The same as `username`'),
  password: optionalText.describe('Password, or a reference to one (`env:NAME`, `file:NAME`)'),
  schema: text.optional().describe('Database of tables named without one; default `db_name`'),
  table: text.optional().describe('Of a saved target: name of its tables, default `{table}`'),
  sslmode: z.enum(sslmodes).optional().describe("With PostgreSQL's words; default `prefer`"),
  ssl_ca: text.optional().describe("PEM text of the certificate authority that signed the server's certificate"),
  ssl_cert: text.optional().describe('PEM text of the client certificate'),
  ssl_key: text.optional().describe("PEM text of the client certificate's key"),
  connect_timeout: z.coerce.number().min(0.1).max(600).optional().describe('Seconds; default 10'),
});
export type MysqlSettings = z.infer<typeof settingsSchema>;

/** Settings whose values are sealed and never shown. */
export const secretKeys = ['password', 'ssl_key'] as const;

/** The stored form: no URL, one spelling per setting. */
type NormalSettings = Omit<MysqlSettings, 'url' | 'database' | 'user'>;

/** What a session needs, with defaults filled in. Secrets are functions: printing or serialising shows none. */
export type MysqlAddress = {
  /** A path is a Unix socket. */
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
export function parseSettings(input: unknown): MysqlSettings {
  const parsed = settingsSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw wrong(parsed.error.issues.map((issue) => `${issue.path.join('.') || 'settings'}: ${issue.message}`).join('; '));
}

/**
 * One spelling per setting, and no secret but under its own key: a password inside the URL becomes `password`.
 * Idempotent. A setting given by itself wins over the same one inside the URL.
 */
export function normalise(settings: MysqlSettings): NormalSettings {
  const { url, database, user, ...rest } = settings;
  const named = defined({ ...rest, db_name: rest.db_name ?? database, username: rest.username || user });
  return defined({ ...(url === undefined ? {} : fromUrl(url)), ...named });
}

/** Throws SETTINGS_INVALID when something needed is missing. References must have been resolved before. */
export function resolve(input: MysqlSettings): MysqlAddress {
  const s = normalise(parseSettings(input));
  const { password, ssl_key: key } = s;
  if (!s.host) throw wrong('url (or host) is missing.');
  if (!s.username) throw wrong('username is missing.');
  const database = s.db_name ?? s.schema;
  if (!database) throw wrong('db_name is missing.');
  return {
    host: s.host,
    port: s.port ?? 3306,
    database,
    user: s.username,
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

/** `host:port/database` (the manual's form), or a URL. Throws without quoting the URL: it may hold a password. */
function fromUrl(url: string): NormalSettings {
  const full = /^(mysql|mariadb):\/\//i.test(url) ? url : `mysql://${url}`;
  let parsed: URL;
  try {
    // A scheme whose URLs are parsed strictly: ports, IPv6.
    parsed = new URL(full.replace(/^[^:]+:/, 'http:'));
  } catch {
    throw wrong('url: not of the form host:port/database or mysql://user@host:port/database.');
  }
  const port = portOf(full, parsed);
  const settings: Record<string, unknown> = {
    host: decode(parsed.hostname).replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? undefined : Number(port),
    db_name: decode(parsed.pathname.slice(1)) || undefined,
    username: decode(parsed.username) || undefined,
    password: decode(parsed.password) || undefined,
  };
  for (const [key, value] of parsed.searchParams) {
    const name = urlParameters[key.toLowerCase().replaceAll(/[-_]/g, '')];
    if (name === undefined) throw wrong(`url: the parameter ${key} is not known.`);
    if (name === 'path') throw wrong(`url: ${key} names a file; give its PEM text as ssl_ca, ssl_cert or ssl_key.`);
    if (name === 'sslmode') settings[name] = sslmodeOf(value);
    else if (name !== 'ignored') settings[name] = value;
  }
  return normalise(parseSettings(defined(settings)));
}

/** MySQL's own words (`REQUIRED`, `VERIFY_IDENTITY`) are taken beside PostgreSQL's. */
function sslmodeOf(value: string): string {
  const word = value.toLowerCase().replaceAll('_', '-');
  const own: Readonly<Record<string, SslMode>> = {
    disabled: 'disable',
    preferred: 'prefer',
    required: 'require',
    'verify-identity': 'verify-full',
    true: 'require',
    false: 'disable',
  };
  return own[word] ?? word;
}

/** `URL` drops a port equal to the scheme's default (80). */
const portOf = (text: string, parsed: URL): string =>
  parsed.port || (/^[^/]*\/\/(?:[^@/?]*@)?(?:\[[^\]]*\]|[^:/?]*):80(?=[/?]|$)/.test(text) ? '80' : '');

/** Parameters of a URL, without regard to case, `-` and `_`: the setting each one is. */
const urlParameters: Readonly<Record<string, string>> = {
  socket: 'host',
  host: 'host',
  schema: 'schema',
  sslmode: 'sslmode',
  ssl: 'sslmode',
  usessl: 'sslmode',
  connecttimeout: 'connect_timeout',
  sslca: 'path',
  sslcert: 'path',
  sslkey: 'path',
  charset: 'ignored',
  characterencoding: 'ignored',
  timezone: 'ignored',
  servertimezone: 'ignored',
};

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};
