/** How far a table is: the greatest value of the column that new rows are found by, and who may still commit below it. */
import { GodwitError } from '../../errors.ts';
import { type Follow, type Table, tableText, type Watermark, type WatermarkOptions } from '../contract.ts';
import { canonicalText, type Ordered, orderedOf, printed } from './ordered.ts';
import type { SessionPool } from './pool.ts';
import type { Session } from './session.ts';
import { ident, tableIdent } from './sql.ts';
import { assertUnchanged, beginRead } from './transaction.ts';
import { type Transactions, writersOf } from './transactions.ts';

/**
 * Every chunk reads its own moment, all of them after this one. So the order here is what counts. Of bookmarks: the clock,
 * then who is open (both are the run's, when it has them), then the value: who is not in that list began after the clock, and writes
 * what the next run reads. Of keys: the value, then who is open: a smaller key that is not there yet is of one of those.
 */
export async function watermarkOf(
  pool: SessionPool,
  transactions: () => Promise<Transactions | undefined>,
  table: Table,
  follow: Follow,
  options: WatermarkOptions,
): Promise<Watermark> {
  const { signal, recheck } = options;
  const column = orderedOf(table, follow.column);
  return await pool.use(async (session) => {
    await beginRead(session, options.snapshot);
    await session.run('COMMIT');
    const clock = options.clock ?? (await clockOf(session));
    if (follow.by === 'key') {
      await assertUnchanged(session, table, [follow.column]);
      const upto = await nthGreatest(session, table, column, 0);
      const floor = upto === undefined ? undefined : await nthGreatest(session, table, column, recheck);
      const writers = (await writersOf(session, table.name)) ?? (await transactions())?.writers;
      return {
        clock,
        ...(upto === undefined ? {} : { upto }),
        ...(floor === undefined ? {} : { floor }),
        ...openIn(writers && { open: writers, active: writers }),
      };
    }
    refuseUnlikeTime(table, follow);
    const known = options.pending === undefined ? await transactions() : (JSON.parse(options.pending) as Transactions);
    await assertUnchanged(session, table, [follow.column]);
    // Texts in any spelling have no greatest that a server could tell.
    const found = follow.form === 'text' ? undefined : await nthGreatest(session, table, column, 0);
    const upto = found?.startsWith('0000-00-00') ? undefined : found;
    return {
      clock,
      ...(upto === undefined ? {} : { upto }),
      ...(known?.oldest === undefined ? {} : { oldest: known.oldest }),
      ...openIn(known),
    };
  }, signal);
}

/** A bookmark is an instant, or the number that stands for one. */
function refuseUnlikeTime(table: Table, { column, form }: Follow): void {
  const kind = table.columns.find((one) => one.name === column)?.type.kind;
  const instant = kind === 'date' || kind === 'timestamp' || kind === 'timestamptz';
  const number = kind !== undefined && /^(u?int\d+|decimal|float\d+)$/.test(kind);
  if (form === 'text' || (form === 'native' ? instant : number)) return;
  const name = tableText(table.name);
  const message = `${name}: column ${column} holds no instants that a bookmark of this form could be.`;
  throw new GodwitError('TYPE_REFUSED', message, { table: name, column });
}

export async function clockOf(session: Session): Promise<string> {
  const [now] = await session.query<{ at: string }>(
    `SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ') AS at`,
  );
  return now?.at ?? '';
}

const openIn = (found: Pick<Transactions, 'open' | 'active'> | undefined): Pick<Watermark, 'open' | 'active'> =>
  found ? { ...(found.open.length > 0 ? { open: found.open } : {}), active: found.active } : {};

/** Has nobody of those who were open then stayed? Lists of another kind, or none at all, tell nothing. */
export function ended(earlier: Watermark, now: Watermark): boolean {
  const open = earlier.open as readonly string[] | undefined;
  const active = now.active as readonly string[] | undefined;
  if (open === undefined) return true;
  return active !== undefined && !open.some((one) => active.includes(one));
}

/** From 0; undefined when there are not so many, or it is NULL. Where an index serves it is walked from its end. */
async function nthGreatest(session: Session, table: Table, column: Ordered, n: number): Promise<string | undefined> {
  const [row] = await session.query<{ value: string | number | null }>(
    `SELECT ${printed(column)} AS value FROM ${tableIdent(table.name)} WHERE ${ident(column.name)} IS NOT NULL
     ORDER BY ${column.order} DESC LIMIT 1 OFFSET ${Math.trunc(n)}`,
  );
  return row?.value == null ? undefined : canonicalText(column, String(row.value));
}
