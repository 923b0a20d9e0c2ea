/**
 * The settings of a `mongo` connection, source or target, as the mapping writes them, and the one resolved form the
 * connector works with. A URL (with or without its scheme: the manual writes `my.connection.url`) or its parts;
 * `normalise` makes one of them, so that a source can override single settings of its connection.
 */
import { z } from 'zod';
import { GodwitError } from '../../errors.ts';

const readPreferences = ['primary', 'primaryPreferred', 'secondary', 'secondaryPreferred', 'nearest'] as const;
const authMechanisms = ['SCRAM-SHA-1', 'SCRAM-SHA-256', 'PLAIN', 'MONGODB-X509'] as const;

const text = z.string().min(1);
/** Setting an environment variable to nothing means it is not set. */
const optionalText = z.string().optional();
const flag = z.union([z.boolean(), z.enum(['true', 'false']).transform((word) => word === 'true')]).optional();

export const settingsSchema = z.strictObject({
  url: text.optional().describe('`mongodb://…`, `mongodb+srv://…`, or `host`, `host:port`, `host:port/database`'),
  host: text.optional().describe('Host name or address; several as `host:port,host:port`'),
  port: z.coerce.number().int().min(1).max(65535).optional().describe('Of hosts without one; default 27017'),
  srv: flag.describe('`host` names SRV records, as in `mongodb+srv://`'),
  db_name: text.optional().describe('Database'),
  database: text.optional().describe('The same as `db_name`'),
  username: optionalText.describe('User name'),
  user: optionalText.describe('The same as `username`'),
  password: optionalText.describe('Password, or a reference to one (`env:NAME`, `file:NAME`)'),
  auth_source: text.optional().describe('Database the user is defined in; default as in a MongoDB URL'),
  auth_mechanism: z.enum(authMechanisms).optional().describe('Default: what the server prefers'),
  schema: text.optional().describe('Of a saved target: database of its collections, default `db_name`'),
  table: text.optional().describe('Of a saved target: name of its collections, default `{table}`'),
  replica_set: text.optional().describe('Name of the replica set; found out when absent'),
  direct: flag.describe('Talk to this one member only, whatever replica set it belongs to'),
  load_balanced: flag.describe('The host is a load balancer in front of mongos'),
  read_preference: z.enum(readPreferences).optional().describe('Members to read from; default `primary`'),
  tls: flag.describe('Default: on with `srv`, else off'),
  tls_ca: text.optional().describe("PEM text of the certificate authority that signed the servers' certificates"),
  tls_cert: text.optional().describe('PEM text of the client certificate'),
  tls_key: text.optional().describe("PEM text of the client certificate's key"),
  tls_insecure: flag.describe("The servers' certificates are not verified"),
  connect_timeout: z.coerce.number().min(0.1).max(600).optional().describe('Seconds; default 10'),
});
export type MongoSettings = z.infer<typeof settingsSchema>;

/** Settings whose values are sealed and never shown. */
export const secretKeys = ['password', 'tls_key'] as const;

/** The stored form: no URL, one spelling per setting. */
type NormalSettings = Omit<MongoSettings, 'url' | 'database' | 'user'>;

/** What a session needs, with defaults filled in. Secrets are functions: printing or serialising shows none. */
export type MongoAddress = {
  /** `host:port`, an IPv6 address in brackets; a path is a socket. With `srv` one name without a port. */
  readonly hosts: readonly string[];
  readonly srv: boolean;
  readonly database: string;
  /** Of a saved target: the database its collections are written to. */
  readonly schema?: string;
  readonly user?: string;
  readonly password?: () => string;
  readonly authSource?: string;
  readonly authMechanism?: (typeof authMechanisms)[number];
  readonly replicaSet?: string;
  readonly direct: boolean;
  readonly loadBalanced: boolean;
  readonly readPreference: (typeof readPreferences)[number];
  readonly tls: boolean;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: () => string;
  readonly insecure: boolean;
  readonly connectSeconds: number;
};

const wrong = (message: string): GodwitError => new GodwitError('SETTINGS_INVALID', message);

/** Parses unknown input. Throws SETTINGS_INVALID naming each wrong setting; never quotes a value. */
export function parseSettings(input: unknown): MongoSettings {
  const parsed = settingsSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw wrong(parsed.error.issues.map((issue) => `${issue.path.join('.') || 'settings'}: ${issue.message}`).join('; '));
}

/**
 * One spelling per setting, and no secret but under its own key: a password inside the URL becomes `password`.
 * Idempotent. A setting given by itself wins over the same one inside the URL.
 */
export function normalise(settings: MongoSettings): NormalSettings {
  const { url, database, user, ...rest } = settings;
  const named = defined({ ...rest, db_name: rest.db_name ?? database, username: rest.username || user });
  return defined({ ...(url === undefined ? {} : fromUrl(url)), ...named });
}

/** Throws SETTINGS_INVALID when something needed is missing. References must have been resolved before. */
export function resolve(input: MongoSettings): MongoAddress {
  const s = normalise(parseSettings(input));
  const { password, tls_key: key } = s;
  if (!s.host) throw wrong('url (or host) is missing.');
  if (!s.db_name) throw wrong('db_name is missing.');
  if (password && !s.username) throw wrong('username is missing beside password.');
  const srv = s.srv ?? false;
  const hosts = hostsOf(s.host, s.port ?? 27017, srv);
  return {
    hosts,
    srv,
    database: s.db_name,
    schema: s.schema,
    user: s.username,
    password: password ? () => password : undefined,
    authSource: s.auth_source,
    authMechanism: s.auth_mechanism,
    replicaSet: s.replica_set,
    direct: s.direct ?? false,
    loadBalanced: s.load_balanced ?? false,
    readPreference: s.read_preference ?? 'primary',
    tls: s.tls ?? srv,
    ca: s.tls_ca,
    cert: s.tls_cert,
    key: key ? () => key : undefined,
    insecure: s.tls_insecure ?? false,
    connectSeconds: s.connect_timeout ?? 10,
  };
}

function hostsOf(host: string, port: number, srv: boolean): string[] {
  const hosts = host.split(',').map((one) => one.trim());
  if (hosts.some((one) => one === '')) throw wrong('host: a name is empty.');
  if (srv) {
    if (hosts.length > 1 || /:\d+$/.test(host)) throw wrong('host: with srv it is one name without a port.');
    return hosts;
  }
  return hosts.map((one) => {
    if (one.startsWith('/')) return one;
    if (/^\[[^\]]+\]$/.test(one)) return `${one}:${port}`;
    if (/^(\[[^\]]+\]|[^:]+):\d+$/.test(one)) return one;
    // An IPv6 address written bare.
    return one.includes(':') ? `[${one}]:${port}` : `${one}:${port}`;
  });
}

const defined = <T extends object>(object: T): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== '')) as T;

const urlForm = /^(?:(mongodb|mongodb\+srv):\/\/)?(?:([^@/?]*)@)?([^/?@]+)(?:\/([^?]*))?(?:\?(.*))?$/is;

/** Throws without quoting the URL: it may hold a password. `URL` knows no list of hosts, so it is taken apart here. */
function fromUrl(url: string): NormalSettings {
  const match = urlForm.exec(url);
  if (!match) throw wrong('url: not of the form mongodb://user@host:port/database or host:port/database.');
  const [, scheme, login, hosts, path, query] = match;
  const colon = login?.indexOf(':') ?? -1;
  const settings: Record<string, unknown> = {
    srv: scheme?.toLowerCase() === 'mongodb+srv' ? true : undefined,
    host: (hosts as string)
      .split(',')
      .map((one) => decode(one))
      .join(','),
    db_name: path === undefined ? undefined : decode(path) || undefined,
    username: login === undefined ? undefined : decode(colon < 0 ? login : login.slice(0, colon)) || undefined,
    password: colon < 0 ? undefined : decode((login as string).slice(colon + 1)) || undefined,
  };
  // The URL's own rule: the user is defined in the database it names. (With SRV its DNS record may say otherwise.)
  if (scheme?.toLowerCase() === 'mongodb') settings.auth_source = settings.db_name;
  for (const [key, value] of new URLSearchParams(query)) {
    const name = urlParameters.get(key.toLowerCase());
    if (name === undefined) throw wrong(`url: the parameter ${key} is not known.`);
    if (name === 'path') throw wrong(`url: ${key} names a file; give its PEM text as tls_ca, tls_cert or tls_key.`);
    if (name === 'connect_timeout') settings[name] = Number(value) / 1000;
    else if (name !== 'ignored') settings[name] = value;
  }
  return normalise(parseSettings(defined(settings)));
}

/**
 * Options of a MongoDB URL (their names know no case): the setting each one is. What tunes a driver in general Godwit
 * sets itself.
 */
const urlParameters: ReadonlyMap<string, string> = new Map([
  ['replicaset', 'replica_set'],
  ['authsource', 'auth_source'],
  ['authmechanism', 'auth_mechanism'],
  ['directconnection', 'direct'],
  ['loadbalanced', 'load_balanced'],
  ['readpreference', 'read_preference'],
  ['tls', 'tls'],
  ['ssl', 'tls'],
  ['tlsinsecure', 'tls_insecure'],
  ['tlsallowinvalidcertificates', 'tls_insecure'],
  ['connecttimeoutms', 'connect_timeout'],
  ['tlscafile', 'path'],
  ['tlscertificatekeyfile', 'path'],
  ...[
    'appName',
    'compressors',
    'heartbeatFrequencyMS',
    'journal',
    'localThresholdMS',
    'maxIdleTimeMS',
    'maxPoolSize',
    'minPoolSize',
    'readConcernLevel',
    'retryReads',
    'retryWrites',
    'serverSelectionTimeoutMS',
    'socketTimeoutMS',
    'uuidRepresentation',
    'w',
    'waitQueueTimeoutMS',
    'wTimeoutMS',
    'zlibCompressionLevel',
  ].map((name) => [name.toLowerCase(), 'ignored'] as const),
]);

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};
