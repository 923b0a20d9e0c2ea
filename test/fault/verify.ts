import { appendFileSync } from 'node:fs';
import type { Installation } from './installation.ts';
import { type Places, type RunTable, runTables, type Shop } from './job.ts';
import {
  type Content,
  compareExact,
  compareStates,
  compareVersions,
  type Difference,
  nothing,
  plus,
  type SnapshotCopies,
} from './oracle.ts';
import type { ShopTable } from './shop.ts';

export type Verdict = Difference & {
  /** Rows found on the targets, all of them compared. */
  readonly rows: number;
  /** Tables by the way they were compared. */
  readonly exact: number;
  readonly byVersions: number;
};

/**
 * Compares every succeeded table of a run with what it had to become: exactly, when it was read under one snapshot; by
 * committed versions, when each chunk read its own moment.
 */
export async function verify(
  at: Installation,
  shop: Shop,
  run: { readonly id: string },
  copies?: SnapshotCopies,
  places: Places = shop.places,
): Promise<Verdict> {
  let sum = nothing;
  let rows = 0;
  let exact = 0;
  let byVersions = 0;
  for (const row of await runTables(at, run.id)) {
    if (row.status !== 'succeeded') continue;
    const table = shop.tables.find(({ name }) => name === row.source_name.split('.').at(-1));
    if (!table) throw new Error(`no table ${row.source_name}`);
    const place = places[row.target];
    if (!place) throw new Error(`nobody knows how to read the target ${row.target}`);
    const found = await place.content(table);
    const { difference, kind } = await compare(shop, row, { table, found, copies });
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
  { table, found, copies }: { table: ShopTable; found: Content; copies: SnapshotCopies | undefined },
): Promise<{ difference: Difference; kind: 'exact' | 'versions' }> {
  if (row.consistency === 'chunk') {
    const history = await shop.history(table);
    if (table.key.length > 0) return { difference: compareVersions(history, found), kind: 'versions' };
    if (row.chunks_total > 1) throw new Error(`${row.source_name} has no key and must not be read in several chunks`);
    return { difference: compareStates(history, found), kind: 'versions' };
  }
  const wanted = row.snapshot === null ? undefined : copies?.of(row.snapshot, table.name);
  if (!wanted) throw new Error(`${row.source_name} was read under snapshot ${row.snapshot}, which was not copied`);
  return { difference: compareExact(wanted, found), kind: 'exact' };
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
