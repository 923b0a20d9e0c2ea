import type { Speeds } from './lines.ts';
import { rowsDone } from './lines.ts';
import { isTableClosed, type RunTableView } from './views.ts';

const windowMilliseconds = 3_000;
type Sample = { readonly at: number; readonly rows: number; readonly bytes: number };

/** Remembers the last seconds of each table: the speed now while it moves, the mean when it is done. */
export function speedometer(): (tables: readonly RunTableView[], now?: number) => Speeds {
  const samples = new Map<number, Sample[]>();
  return (tables, now = Date.now()) => {
    const speeds = new Map<number, { rows: number; bytes: number }>();
    for (const table of tables) {
      const rows = rowsDone(table);
      if (isTableClosed(table.status)) {
        const from = table.movingSince ?? table.startedAt;
        const seconds = from && table.endedAt ? (Date.parse(table.endedAt) - Date.parse(from)) / 1000 : 0;
        if (seconds > 0) speeds.set(table.ordinal, { rows: rows / seconds, bytes: table.bytes / seconds });
        continue;
      }
      const all = samples.get(table.ordinal) ?? [];
      all.push({ at: now, rows, bytes: table.bytes + perRow(table) * table.rowsMoving });
      while (all.length > 2 && now - (all[0] as Sample).at > windowMilliseconds) all.shift();
      samples.set(table.ordinal, all);
      const first = all[0] as Sample;
      const last = all.at(-1) as Sample;
      const seconds = (last.at - first.at) / 1000;
      if (seconds > 0.2 && last.rows > first.rows) {
        speeds.set(table.ordinal, {
          rows: (last.rows - first.rows) / seconds,
          bytes: Math.max(0, last.bytes - first.bytes) / seconds,
        });
      }
    }
    return speeds;
  };
}

const perRow = (table: RunTableView): number => {
  if (table.rowsRead > 0) return table.bytes / table.rowsRead;
  return table.estimatedRows > 0 && table.estimatedBytes > 0 ? table.estimatedBytes / table.estimatedRows : 0;
};
