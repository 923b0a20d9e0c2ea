import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import type { Installation } from './installation.ts';
import { type RunTable, runTables, type Shop, tableOf } from './job.ts';
import {
  type Content,
  compareExact,
  compareVersions,
  contentOf,
  type Difference,
  nothing,
  plus,
  type SnapshotCopies,
  targetContent,
} from './oracle.ts';
import { digestInDuckDb, keyTextInDuckDb, type ShopTable } from './shop.ts';

export type Verdict = Difference & {
  /** Rows found on the targets, all of them compared. */
  readonly rows: number;
  /** Tables by the way they were compared. */
  readonly exact: number;
  readonly byVersions: number;
};

/** Where a file target's tables lie, by the target's name: the folder that holds `orders/`, `items/` … */
export type Folders = Readonly<Record<string, string>>;

/**
 * Compares every succeeded table of a run with what it had to become: exactly, when it was read under one snapshot; by
 * committed versions, when each chunk read its own moment.
 */
export async function verify(
  at: Installation,
  shop: Shop,
  run: { readonly id: string },
  copies: SnapshotCopies,
  folders: Folders = {},
): Promise<Verdict> {
  let sum = nothing;
  let rows = 0;
  let exact = 0;
  let byVersions = 0;
  for (const row of await runTables(at, run.id)) {
    if (row.status !== 'succeeded') continue;
    const table = tableOf(row.source_name);
    const folder = folders[row.target];
    const found = folder
      ? await fileContent(join(folder, table.name), table)
      : await targetContent(shop.target, table, 'copy');
    const { difference, kind } = await compare(shop, row, table, found, copies);
    if (kind === 'exact') exact++;
    else byVersions++;
    if (difference.lost + difference.doubled + difference.changed > 0) {
      console.log(
        `${shop.name} ${row.target} ${row.source_name} (${row.consistency}, ${kind}): ${JSON.stringify(difference)}`,
      );
    }
    sum = plus(sum, difference);
    for (const { times } of found.values()) rows += times;
  }
  return { ...sum, rows, exact, byVersions };
}

async function compare(
  shop: Shop,
  row: RunTable,
  table: ShopTable,
  found: Content,
  copies: SnapshotCopies,
): Promise<{ difference: Difference; kind: 'exact' | 'versions' }> {
  if (row.consistency === 'chunk') {
    if (table.key.length === 0) throw new Error(`${row.source_name} has no key and must not be read chunk by chunk`);
    return { difference: await compareVersions(shop.source, table, found), kind: 'versions' };
  }
  const wanted = row.snapshot === null ? undefined : copies.of(row.snapshot, table.name);
  if (!wanted) throw new Error(`${row.source_name} was read under snapshot ${row.snapshot}, which was not copied`);
  return { difference: compareExact(wanted, found), kind: 'exact' };
}

/** Rows of all Parquet parts of a table's folder: what a plain prefix reader sees. */
export async function fileContent(folder: string, table: ShopTable): Promise<Content> {
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

/** What one scenario counted: kills, lost, doubled, changed … */
export type Reported = Readonly<Record<string, number | string>>;
export const inWords = (figures: Reported): string =>
  Object.entries(figures)
    .map(([name, figure]) => `${name} ${figure}`)
    .join(', ');

/** Prints one line of figures. GODWIT_FAULT_FIGURES names a file that gets them too, a line of JSON each. */
export function report(what: string, figures: Reported): void {
  console.log(`faults: ${what}: ${inWords(figures)}`);
  const file = process.env.GODWIT_FAULT_FIGURES;
  if (file) appendFileSync(file, `${JSON.stringify(figures)}\n`);
}
