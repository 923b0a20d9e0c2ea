import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

type Rules = {
  /** Folders or files it may import. */
  readonly imports: readonly string[];
  /** Those of which it may import types only. */
  readonly types?: readonly string[];
  /** Those it may also load with `import()`: what only some commands need. */
  readonly lazy?: readonly string[];
  /** Packages it must not know. */
  readonly never?: readonly string[];
};

/** What the parts say to each other; no part's inside. */
const vocabulary = ['connectors/contract.ts', 'connectors/types.ts', 'errors.ts'];

/**
 * Imports point one way. The API opens no source or target; connectors know nothing of Temporal, HTTP and metadata;
 * workflows are deterministic and know activities by their types.
 */
const arrows: Readonly<Record<string, Rules>> = {
  cli: {
    imports: [...vocabulary, 'mapping', 'schedules', 'servers', 'config.ts'],
    types: ['api', 'db', 'activities/plan'],
    lazy: ['api', 'worker', 'db'], // embedded, all of Godwit is one process
  },
  api: {
    imports: [...vocabulary, 'db', 'workflows', 'mapping', 'schedules', 'secrets', 'config.ts'],
    never: ['pg', '@temporalio/worker', '@temporalio/activity'],
  },
  worker: {
    imports: [
      ...vocabulary,
      'activities',
      'db',
      'connectors',
      'transforms',
      'workflows',
      'schedules',
      'secrets',
      'notify',
      'config.ts',
    ],
  },
  workflows: {
    imports: ['errors.ts'],
    types: ['activities', 'connectors/contract.ts', 'db/schema.ts'],
    never: ['node:', 'pg', 'drizzle-orm'],
  },
  activities: {
    imports: [
      ...vocabulary,
      'connectors',
      'transforms',
      'db',
      'mapping',
      'schedules',
      'secrets',
      'notify',
      'faults.ts',
    ],
    types: ['workflows', 'config.ts'],
    never: ['hono', '@hono/', '@temporalio/workflow'],
  },
  connectors: { imports: ['errors.ts', 'faults.ts'], never: ['@temporalio/', 'hono', '@hono/', 'drizzle-orm'] },
  transforms: { imports: vocabulary, types: ['mapping'], never: ['@temporalio/', 'hono', '@hono/', 'drizzle-orm'] },
  mapping: {
    imports: [...vocabulary, 'schedules', 'connectors/*/settings.ts'],
    never: ['@temporalio/', 'hono', 'drizzle-orm', 'pg'],
  },
  schedules: { imports: ['errors.ts'], never: ['@temporalio/', 'node:', 'hono', 'drizzle-orm', 'pg'] },
  db: {
    imports: [...vocabulary, 'mapping', 'schedules', 'secrets', 'config.ts'],
    never: ['@temporalio/', 'hono', '@hono/'],
  },
  notify: { imports: ['errors.ts'], types: ['db', 'mapping'], never: ['@temporalio/', 'hono', 'drizzle-orm', 'pg'] },
  secrets: { imports: ['errors.ts', 'config.ts'] },
  servers: { imports: ['errors.ts'] },
};

/** One sentence for each import that points the wrong way. */
export function wrongArrows(project: string): string[] {
  return Object.entries(arrows).flatMap(([part, rules]) =>
    globSync(`${part}/**/*.{ts,mts}`, { cwd: project }).flatMap((file) =>
      [...importsOf(readFileSync(join(project, file), 'utf8'))]
        .map((one) => judge({ part, rules, file, ...one }))
        .filter((sentence) => sentence !== undefined),
    ),
  );
}

type Import = { readonly from: string; readonly kind: 'import' | 'type' | 'lazy' };

function judge(at: Import & { part: string; rules: Rules; file: string }): string | undefined {
  const { part, rules, file, from, kind } = at;
  if (!from.startsWith('.')) {
    const banned = rules.never?.find(
      (name) => from === name || from.startsWith(/[:/]$/.test(name) ? name : `${name}/`),
    );
    return banned && kind !== 'type' ? `${file} imports ${from}: ${part} must not know it` : undefined;
  }
  const target = relative('.', join(dirname(file), from));
  const within = (places: readonly string[] = []) => places.some((place) => isIn(target, place));
  if (isIn(target, part) || within(rules.imports)) return undefined;
  const types = within(rules.types);
  const lazy = within(rules.lazy);
  if ((types && kind === 'type') || (lazy && kind !== 'import')) return undefined;
  if (lazy) return `${file} imports ${target}: only \`import()\` may go from ${part} to it`;
  if (types) return `${file} imports ${target}: only \`import type\` may go from ${part} to it`;
  return `${file} imports ${target}: there is no arrow from ${part} to it`;
}

function isIn(target: string, place: string): boolean {
  if (!place.includes('*')) return target === place || target.startsWith(`${place}/`);
  return new RegExp(`^${place.replaceAll('.', '\\.').replaceAll('*', '[^/]+')}$`).test(target);
}

const statement = /^(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm;
const dynamic = /\bimport\(\s*'([^']+)'\s*\)/g;

function* importsOf(source: string): Generator<Import> {
  for (const [, type, from = ''] of source.matchAll(statement)) yield { from, kind: type ? 'type' : 'import' };
  for (const { index, 0: whole, 1: from = '' } of source.matchAll(dynamic)) {
    // `import('x').Name` and `typeof import('x')` are types.
    const awaited = /await\s+$/.test(source.slice(0, index));
    const named = /^\.(?!then\b)/.test(source.slice(index + whole.length));
    const type = /typeof\s+$/.test(source.slice(0, index)) || (named && !awaited);
    yield { from, kind: type ? 'type' : 'lazy' };
  }
}
