import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { type Content, contentOf } from '../oracle.ts';
import { digestInDuckDb, keyTextInDuckDb, type ShopTable } from '../shop.ts';
import { filesBelow } from '../spool.ts';
import type { Kind, Place } from './kind.ts';

/** Parquet in a local folder. */
export const files: Kind = {
  name: 'files',
  writing: ['after-read', 'before-commit', 'after-commit', 'before-answer'],
  publishing: ['before-manifest', 'in-publish'],
  async start(at) {
    return {
      place: async (name) => filesPlace(join(at.files, name)),
      disturbances: [],
      [Symbol.asyncDispose]: async () => {},
    };
  },
  // A chunk has one commit, of its newest attempt, and what is published are the parts it names. Here instead the parts of
  // all attempts that wait.
  fence: {
    stopAt: 'before-commit',
    wakes: false,
    changes: [
      {
        file: 'connectors/files/commits.ts',
        from: 'yield { chunk, epoch: entry.epoch, commit: entry };',
        to: 'yield { chunk, epoch: entry.epoch, commit: { ...entry, parts: await waiting(store, work, entry) } };',
      },
      {
        file: 'connectors/files/commits.ts',
        from: '/** All commits. ',
        to: `async function waiting(store: Store, work: Work, { chunk, counts }: CommitEntry): Promise<StagedPart[]> {
  const parts: StagedPart[] = [];
  for await (const { key, size } of store.list(\`\${stagingFolder(work)}parts/\`)) {
    if (!key.includes(\`/parts/\${chunk.id}.\`)) continue;
    parts.push({ key, partition: '', rows: counts.written, bytes: size, sha256: '' });
  }
  return parts;
}

/** All commits. `,
      },
    ],
  },
};

const schema = 'shop';
export const parquet = { schema, format: 'parquet' } as const;

/** A file target's root. */
export const filesPlace = (root: string): Place => ({
  settings: { destination_type: 'files', path: root, ...parquet },
  content: (table) => content(join(root, schema, table.name), table),
  strays: async () => filesBelow(join(root, '_godwit', 'staging')),
});

/** Rows of all Parquet parts of a table's folder: what a plain prefix reader sees. */
async function content(folder: string, table: ShopTable): Promise<Content> {
  if (!existsSync(folder)) return new Map();
  const parts = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.parquet') && !name.split('/').some((piece) => piece.startsWith('_')),
  );
  const manifest = JSON.parse(readFileSync(join(folder, '_manifest.json'), 'utf8')) as { parts: { path: string }[] };
  const named = manifest.parts.map(({ path }) => path).sort();
  if (JSON.stringify(named) !== JSON.stringify(parts.sort())) {
    throw new Error(`the manifest of ${folder} does not name exactly the parts that are there`);
  }
  if (parts.length === 0) return new Map();
  const instance = await DuckDBInstance.create(':memory:', { threads: '1', memory_limit: '256MB' });
  const connection = await instance.connect();
  try {
    const list = parts.map((name) => `'${join(folder, name).replaceAll("'", "''")}'`).join(', ');
    const reader = await connection.runAndReadAll(
      `SELECT ${keyTextInDuckDb(table)} AS key, ${digestInDuckDb(table)} AS hash
       FROM read_parquet([${list}], hive_partitioning = false)`,
    );
    return contentOf(reader.getRowObjects() as { key: string; hash: string }[], table.key.length > 0);
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
