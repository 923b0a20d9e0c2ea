/**
 * A whole document in a table of snapshots (mode dumping): `_id` becomes `{ migration_snapshot_date, _id }`, so that each
 * snapshot has its own, and the date stands among the fields too. All else stays as it is, byte by byte.
 */
import { GodwitError } from '../../../errors.ts';
import { type PlanColumn, tableText, type Work } from '../../contract.ts';
import { behindName, bson, sizeOf } from '../bson.ts';
import type { Cutting } from './documents.ts';
import { millisecondsOf } from './instant.ts';
import { Out, setSafeInt64 } from './out.ts';

/** The column Godwit adds, the same value in every row. */
export const snapshotColumnOf = (work: Work): PlanColumn | undefined =>
  work.mode === 'dumping'
    ? work.columns.find(({ constant }) => constant !== undefined && constant === work.snapshotDate)
    : undefined;

export function snapshotRewriter(work: Work, madeId: Cutting['madeId']): NonNullable<Cutting['rewrite']> | undefined {
  const column = snapshotColumnOf(work);
  if (!column) return undefined;
  const date = dateElement(column.name, column.constant ?? '');
  const name = date.subarray(1, -8);
  return (b, at, length, out, ordinal) => {
    const start = out.open();
    out.byte(bson.object);
    out.name('_id');
    const id = out.open();
    out.bytes(date);
    const rest: [number, number][] = [];
    let own = false;
    for (let p = at + 4; p < at + length - 1; ) {
      const value = behindName(b, p + 1);
      const end = value + sizeOf(b, b[p] as number, value);
      if (value - p === 5 && b.toString('latin1', p + 1, p + 4) === '_id') {
        out.bytes(b.subarray(p, end));
        own = true;
      } else if (name.equals(b.subarray(p + 1, value))) throw taken(work, column.name);
      else {
        const last = rest.at(-1);
        if (last && last[1] === p) last[1] = end;
        else rest.push([p, end]);
      }
      p = end;
    }
    if (!own) {
      out.byte(bson.objectId);
      out.name('_id');
      madeId(out, ordinal);
    }
    out.close(id);
    out.bytes(date);
    for (const [from, to] of rest) out.bytes(b.subarray(from, to));
    out.close(start);
  };
}

function dateElement(name: string, text: string): Buffer {
  const out = new Out(64);
  out.byte(bson.date);
  out.name(name);
  out.room(8);
  setSafeInt64(out.b, out.at, millisecondsOf(text));
  out.at += 8;
  return out.take();
}

function taken(work: Work, column: string): GodwitError {
  const table = tableText(work.name);
  const message = `A document of ${table} has a field "${column}" of its own, which dumping adds.`;
  return new GodwitError('VALUE_REFUSED', message, { table, column });
}
