import { z } from 'zod';
import * as files from '../connectors/files/settings.ts';
import * as mongodb from '../connectors/mongodb/settings.ts';
import * as mysql from '../connectors/mysql/settings.ts';
import * as postgres from '../connectors/postgres/settings.ts';
import { GodwitError } from '../errors.ts';
import { didYouMean, type Path, type Report } from './problems.ts';
import { targetUseSchema } from './schema.ts';

/** A source or target written inside the mapping: a row of its own, owned by the job. */
export type Endpoint = {
  readonly name: string;
  /** The mapping's word: pgsql, mysql, mariadb, mongo, files, s3. */
  readonly type: SystemType;
  /** A saved connection it inherits from. */
  readonly connection?: string;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Values to be sealed, or `env:` and `file:` references. */
  readonly secrets: Readonly<Record<string, string>>;
};

export type TargetKeys = z.infer<typeof targetUseSchema>;
export type SystemType = keyof typeof systems;

type Settings = Readonly<Record<string, unknown>>;
type System = {
  readonly schema: z.ZodObject;
  readonly secretKeys: readonly string[];
  /** One spelling per setting; a password inside a URL becomes a setting of its own. */
  readonly normalise: (settings: Settings) => Settings;
  /** Its rows are documents. */
  readonly documents?: boolean;
  /** What it calls a schema is a database: a table written without one is in its `db_name`. */
  readonly schemaIsDatabase?: boolean;
  /** A database that every server has: a connection is tested there when it names none. */
  readonly everywhere?: string;
  readonly files?: boolean;
};

const mysqlLike = {
  schema: mysql.settingsSchema,
  secretKeys: mysql.secretKeys,
  normalise: mysql.normalise,
  schemaIsDatabase: true,
  everywhere: 'information_schema',
} as const satisfies System;

/** The systems a mapping may name, by its own words. */
export const systems = {
  pgsql: { schema: postgres.settingsSchema, secretKeys: postgres.secretKeys, normalise: postgres.normalise },
  mysql: mysqlLike,
  mariadb: mysqlLike,
  mongo: {
    schema: mongodb.settingsSchema,
    secretKeys: mongodb.secretKeys,
    normalise: mongodb.normalise,
    documents: true,
    schemaIsDatabase: true,
    everywhere: 'admin',
  },
  files: {
    schema: files.filesSchema,
    secretKeys: files.secretKeys.files,
    normalise: (settings) => settings,
    files: true,
  },
  s3: { schema: files.s3Schema, secretKeys: files.secretKeys.s3, normalise: (settings) => settings, files: true },
} as const satisfies Record<string, System>;

export const sourceTypes = ['pgsql', 'mysql', 'mariadb', 'mongo'] as const;
export const destinationTypes = ['pgsql', 'mysql', 'mariadb', 'mongo', 's3', 'files'] as const;
const later = ['kafka', 'api', 'redshift', 's3', 'files'];
/** Other spellings of a type. */
const aliases: Readonly<Record<string, SystemType>> = { mongodb: 'mongo' };
export const typeNamed = (word: unknown): unknown => (typeof word === 'string' ? (aliases[word] ?? word) : word);

/** What a type is like; nothing is known of a type that is none. */
export const systemOf = (type: string): Partial<System> => (type in systems ? systems[type as SystemType] : {});

/** `env:NAME` and `file:NAME`: resolved in the worker, or by the CLI of the same user. */
export const isReference = (value: unknown): value is string =>
  typeof value === 'string' && /^(env|file):\S+$/.test(value);

type Inline = { readonly input: Readonly<Record<string, unknown>>; readonly name: string; readonly at: Path };

export function readSource({ input, name, at }: Inline, report: Report): Endpoint | undefined {
  const { source_type: type, connection, ...settings } = input;
  const known = checkType({ type, key: 'source_type', known: sourceTypes, at }, report);
  if (known === undefined || !checkConnection(connection, at, report)) return undefined;
  return endpoint({ type: known, name, connection, settings, at }, ['source_type', 'connection'], report);
}

/** The target's row and what this job says about its use. A string or `target: name` means a saved one. */
export function readTarget(
  { input, name, at }: Inline,
  report: Report,
): { endpoint?: Endpoint; saved?: string; use: TargetKeys } | undefined {
  const { destination_type: type, target, connection, ...rest } = input;
  const useKeys = Object.keys(targetUseSchema.shape);
  const own = (key: string) => useKeys.includes(key);
  const use = report.parse(targetUseSchema, pick(rest, own), at);
  const settings = pick(rest, (key) => !own(key));
  if (target !== undefined) {
    if (typeof target !== 'string') report.add([...at, 'target'], 'expected the name of a saved target');
    if (type !== undefined)
      report.add([...at, 'destination_type'], 'not beside `target`: the saved target has its type', 'key');
    for (const key of Object.keys(settings)) {
      const why = settingOfAny(key) ? ': it belongs to the saved target' : '';
      report.add(
        [...at, key],
        `unknown key "${key}" beside \`target\`${why || didYouMean(key, ['target', ...useKeys])}`,
        'key',
      );
    }
    return use && typeof target === 'string' ? { saved: target, use } : undefined;
  }
  const known = checkType({ type, key: 'destination_type', known: destinationTypes, at }, report);
  if (known === undefined || !checkConnection(connection, at, report)) return undefined;
  if (!systemOf(known).files) {
    for (const key of ['format', 's3_suffix'] as const) {
      if (key in input) report.add([...at, key], `"${key}" is for file targets, not for ${known}`, 'key');
    }
  }
  const extra = ['destination_type', 'connection', ...useKeys];
  const made = endpoint({ type: known, name, connection, settings, at }, extra, report);
  return made && use ? { endpoint: made, use } : undefined;
}

const settingOfAny = (key: string): boolean => Object.values(systems).some(({ schema }) => key in schema.shape);

type TypeCheck<T extends string> = {
  readonly type: unknown;
  readonly key: string;
  readonly known: readonly T[];
  readonly at: Path;
};

function checkType<T extends string>({ type: word, key, known, at }: TypeCheck<T>, report: Report): T | undefined {
  const type = typeNamed(word);
  if (known.includes(type as T)) return type as T;
  const path = [...at, key];
  if (type === undefined) report.add(at, `"${key}" is required: ${known.join(', ')}, or the name of a saved one`);
  else if (later.includes(type as string)) {
    report.add(path, `"${type}" comes in a later version of Godwit; this one has ${known.join(', ')}`);
  } else report.add(path, `"${String(type)}" is not known${didYouMean(String(type), known)}`);
  return undefined;
}

function checkConnection(connection: unknown, at: Path, report: Report): connection is string | undefined {
  if (connection === undefined || (typeof connection === 'string' && connection !== '')) return true;
  report.add([...at, 'connection'], 'expected the name of a saved connection');
  return false;
}

type Draft = {
  readonly type: SystemType;
  readonly name: string;
  readonly connection: string | undefined;
  readonly settings: Settings;
  readonly at: Path;
};

function endpoint(
  { type, name, connection, settings, at }: Draft,
  extra: readonly string[],
  report: Report,
): Endpoint | undefined {
  const system: System = systems[type];
  const schema = system.schema.extend(Object.fromEntries(extra.map((key) => [key, z.unknown().optional()])));
  // What a connection gives need not stand here.
  const wanted = connection === undefined ? schema : schema.partial();
  const parsed = report.parse(wanted, settings, at);
  if (parsed === undefined) return undefined;
  try {
    const { plain, secrets } = splitSecrets(type, parsed);
    return { name, type, ...(connection === undefined ? {} : { connection }), settings: plain, secrets };
  } catch (error) {
    if (!(error instanceof GodwitError)) throw error;
    report.add(at, error.message);
    return undefined;
  }
}

/**
 * Normalised settings, the secret ones apart. A whole URL given by reference stays a secret: a password may be in it.
 * Throws SETTINGS_INVALID for a URL that cannot be read.
 */
export function splitSecrets(
  type: SystemType,
  input: Settings,
): { plain: Record<string, unknown>; secrets: Record<string, string> } {
  const system: System = systems[type];
  const references = pick(input, (key) => isReference(input[key]));
  const settings = { ...system.normalise(pick(input, (key) => !isReference(input[key]))), ...references };
  const isSecret = (key: string) => system.secretKeys.includes(key) || isReference(settings[key]);
  return {
    plain: pick(settings, (key) => !isSecret(key) && settings[key] !== undefined),
    secrets: pick(settings, (key) => isSecret(key) && settings[key] !== undefined) as Record<string, string>,
  };
}

const pick = (from: Settings, wanted: (key: string) => boolean): Record<string, unknown> =>
  Object.fromEntries(Object.entries(from).filter(([key]) => wanted(key)));
