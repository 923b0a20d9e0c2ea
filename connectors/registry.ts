/**
 * Every system Godwit knows, by the word the mapping uses for it (`source_type`, `destination_type`). Drivers are loaded
 * when a source or target is opened, not before.
 */
import type { ZodType } from 'zod';
import type { Source, SystemName, Target } from './contract.ts';

export type SettingsEntry = {
  /** Keys of a connection, source or target of this system. */
  readonly schema: ZodType;
  /** Those that are sealed and never shown. */
  readonly secretKeys: readonly string[];
  /**
   * One spelling per setting, and no secret outside of its own key (a password inside a URL becomes `password`).
   * Idempotent. Throws SETTINGS_INVALID.
   */
  readonly normalise?: (settings: Record<string, unknown>) => Record<string, unknown>;
};

export type SystemEntry = {
  readonly system: SystemName;
  /** For people. */
  readonly title: string;
  readonly settings: () => Promise<SettingsEntry>;
  /** Settings with references resolved. `openSource` opens no connection yet; it throws SETTINGS_INVALID. */
  readonly source?: () => Promise<{ openSource(settings: never): Source }>;
  readonly target?: () => Promise<{ openTarget(settings: never, environment: never): Target | Promise<Target> }>;
};

const mysqlSettings = async (): Promise<SettingsEntry> => {
  const { settingsSchema, secretKeys, parseSettings, normalise } = await import('./mysql/settings.ts');
  return { schema: settingsSchema, secretKeys, normalise: (settings) => normalise(parseSettings(settings)) };
};

export const registry = {
  pgsql: {
    system: 'postgres',
    title: 'PostgreSQL',
    settings: async () => {
      const { settingsSchema, secretKeys, parseSettings, normalise } = await import('./postgres/settings.ts');
      return { schema: settingsSchema, secretKeys, normalise: (settings) => normalise(parseSettings(settings)) };
    },
    source: () => import('./postgres/source.ts'),
    target: () => import('./postgres/target.ts'),
  },
  mysql: {
    system: 'mysql',
    title: 'MySQL',
    settings: mysqlSettings,
    source: () => import('./mysql/source.ts'),
    target: () => import('./mysql/target.ts'),
  },
  mariadb: {
    system: 'mysql',
    title: 'MariaDB',
    settings: mysqlSettings,
    source: () => import('./mysql/source.ts'),
    target: () => import('./mysql/target.ts'),
  },
  mongo: {
    system: 'mongodb',
    title: 'MongoDB',
    settings: async () => {
      const { settingsSchema, secretKeys, parseSettings, normalise } = await import('./mongodb/settings.ts');
      return { schema: settingsSchema, secretKeys, normalise: (settings) => normalise(parseSettings(settings)) };
    },
    source: () => import('./mongodb/source.ts'),
    target: () => import('./mongodb/target.ts'),
  },
  files: {
    system: 'files',
    title: 'Files in a folder',
    settings: async () => {
      const { filesSchema, secretKeys } = await import('./files/settings.ts');
      return { schema: filesSchema, secretKeys: secretKeys.files };
    },
    target: () => import('./files/target.ts'),
  },
  s3: {
    system: 'files',
    title: 'Files in S3',
    settings: async () => {
      const { s3Schema, secretKeys } = await import('./files/settings.ts');
      return { schema: s3Schema, secretKeys: secretKeys.s3 };
    },
    target: () => import('./files/target.ts'),
  },
} as const satisfies Record<string, SystemEntry>;

export type SystemWord = keyof typeof registry;
