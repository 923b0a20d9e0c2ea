import { z } from '@hono/zod-openapi';
import { GodwitError } from '../errors.ts';
import { type SystemType, sourceTypes, splitSecrets, systems, typeNamed } from '../mapping/endpoints.ts';
import { didYouMean, pathText } from '../mapping/problems.ts';

export type Given = Readonly<Record<string, unknown>>;
export type Split = {
  readonly type: SystemType;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, string>>;
  /** Secrets to be forgotten: given as null. */
  readonly removed: readonly string[];
};

/** For the OpenAPI document. */
export const typeWords = Object.keys(systems).join(', ');
export const systemType = z.string().describe(typeWords);

const isType = (type: string): type is SystemType => type in systems;

/**
 * Settings as a user gives them, secrets among them, in one spelling and the secrets apart. `partial`: a connection
 * gives the rest. Throws SETTINGS_INVALID naming each wrong one; never quotes a value.
 */
export function readSettings(
  given: Given,
  {
    type: word,
    kind,
    partial,
  }: { readonly type: string; readonly kind: 'connection' | 'source' | 'target'; readonly partial: boolean },
): Split {
  const type = String(typeNamed(word));
  const known: readonly string[] = kind === 'source' ? sourceTypes : Object.keys(systems);
  if (!isType(type) || !known.includes(type)) {
    const problem = { path: 'type', message: `"${type}" is no type of a ${kind}${didYouMean(type, known)}` };
    throw invalid([problem]);
  }
  const removed = Object.keys(given).filter((key) => given[key] === null);
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  const { schema, secretKeys } = systems[type];
  const names = Object.keys(schema.shape);
  const parsed = (partial ? schema.partial() : schema).safeParse(set);
  if (!parsed.success) {
    throw invalid(
      parsed.error.issues.flatMap((issue) =>
        issue.code === 'unrecognized_keys'
          ? issue.keys.map((key) => ({ path: `settings.${key}`, message: `unknown setting${didYouMean(key, names)}` }))
          : [{ path: pathText(['settings', ...issue.path]), message: issue.message.replace(/^Invalid input: /, '') }],
      ),
    );
  }
  for (const key of removed) {
    if (!names.includes(key)) {
      throw invalid([{ path: `settings.${key}`, message: `unknown setting${didYouMean(key, names)}` }]);
    }
  }
  const { plain, secrets } = splitSecrets(type, parsed.data);
  return { type, settings: plain, secrets, removed: removed.filter((key) => isSecret(secretKeys, key)) };
}

const isSecret = (keys: readonly string[], key: string): boolean => keys.includes(key);

function invalid(problems: readonly { path: string; message: string }[]): GodwitError {
  const detail = problems.map(({ path, message }) => `${path}: ${message}`).join('; ');
  return Object.assign(new GodwitError('SETTINGS_INVALID', detail), { problems });
}

/** What the system assumes for a setting nobody gave: `explain` shows it. */
export const defaultsOf = (type: string): Given => (isType(type) ? defaults[type] : {});

const defaults: Readonly<Record<SystemType, Given>> = {
  pgsql: { port: 5432, sslmode: 'prefer', connect_timeout: 10 },
  mysql: { port: 3306, sslmode: 'prefer', connect_timeout: 10 },
  mariadb: { port: 3306, sslmode: 'prefer', connect_timeout: 10 },
  mongo: { port: 27017, read_preference: 'primary', connect_timeout: 10 },
  files: {},
  s3: {},
};
