/**
 * Tables cut by the months of one column (`partition_col`). A month's partition is made when its first row comes; NULL, infinite
 * dates and years outside of 1 to 9999 are in the DEFAULT partition, whose check proves to the server that no month is in it.
 * Months of a `timestamptz` are those of UTC.
 */
import { GodwitError } from '../../../errors.ts';
import { type PlanColumn, type TableName, tableText, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { ident, literal, tableIdent } from '../sql.ts';
import { layout } from './layout.ts';
import { ledgerSchema, shortened, stagingOf } from './names.ts';

/** The column by whose months this work's table is cut, when a new one is made. */
export function partitionColumn(work: Work): PlanColumn | undefined {
  if (work.partition?.format !== 'datetime') return undefined;
  return work.columns.find((column) => column.name === work.partition?.column);
}

const dated = new Set(['date', 'timestamp', 'timestamptz']);

/** A plan's refusal of a column that has no months. */
export function partitionRefusal(work: Work): GodwitError | undefined {
  const column = partitionColumn(work);
  if (!column || dated.has(column.type.kind)) return undefined;
  const where = { table: tableText(work.name), target: work.target, column: column.name };
  const message = `Column "${column.name}" of ${where.table} is ${column.native}: partition_col needs a date or a timestamp, a table is cut by its months.`;
  return new GodwitError('TYPE_REFUSED', message, where);
}

/** ` PARTITION BY RANGE (…)` by the column's name while the rows arrive, or nothing. */
export function partitionClause(work: Work): string {
  const column = partitionColumn(work);
  const laid = column && layout(work).find((one) => one.plan === column);
  return laid ? ` PARTITION BY RANGE (${ident(laid.name)})` : '';
}

/**
 * Tables of the incremental modes and partitioned ones carry their own key, plain indexes and checks: no other unique or exclusion
 * constraints, no foreign keys.
 */
export const isLoose = (work: Work): boolean =>
  (work.mode !== 'replace' && work.mode !== 'dumping') || partitionColumn(work) !== undefined;

/**
 * The table's key. A partitioned table has no unique key without its partition column, and a primary key no NULL: where that
 * column may be NULL the key is a unique constraint (decision 23).
 */
export function tableKey(work: Work): { readonly columns: readonly string[]; readonly primary: boolean } {
  const column = partitionColumn(work);
  if (!column || work.key.length === 0 || work.key.includes(column.name)) return { columns: work.key, primary: true };
  return { columns: [...work.key, column.name], primary: !column.nullable };
}

/** First days of months, `2024-05-01`; `default` where rows need the DEFAULT partition. */
export type Months = ReadonlySet<string>;

export const everyMonth = ([first, last]: readonly [number, number]): Months =>
  new Set(
    Array.from({ length: Math.max(0, last - first + 1) * 12 }, (_, i) =>
      dayOf(first + Math.floor(i / 12), (i % 12) + 1),
    ),
  );

const dayOf = (year: number, month: number): string =>
  `${String(year).padStart(4, '0')}-${String(month).padStart(2, '0')}-01`;

function nextMonth(day: string): string {
  const [year = 0, month = 0] = day.split('-').map(Number);
  return month === 12 ? dayOf(year + 1, 1) : dayOf(year, month + 1);
}

/** The months of the rows of a table. */
export async function monthsIn(session: Session, table: string, column: string): Promise<Months> {
  const at = ident(column);
  const rows = await session.query<{ month: string | null }>(
    `SELECT DISTINCT CASE WHEN ${at} >= '0001-01-01' AND ${at} < '10000-01-01'
       THEN pg_catalog.date_trunc('month', ${at}::timestamp)::date::text END AS month FROM ${table}`,
  );
  return new Set(rows.map((row) => row.month ?? 'default'));
}

export type Cut = { readonly table: TableName; readonly oid: string; readonly column: string };

const makers = 7160131;
const attempts = 12;

/**
 * Makes the partitions that lack, in a transaction of its own: attaching one lets others read and write meanwhile, but for the
 * DEFAULT partition, which is locked for a moment. Throws SERVER_BUSY when somebody does not let go of that.
 */
export async function makePartitions(pool: SessionPool, cut: Cut, months: Months): Promise<void> {
  const lacking = await pool.use((session) => missingOf(session, cut, months));
  if (lacking.size === 0) return;
  await pool.use(async (session) => {
    for (let n = 1; ; n++) {
      try {
        // Two chunks that need one month: the second one finds it.
        await session.query(`BEGIN; SELECT pg_advisory_xact_lock(${makers}, ${Number(cut.oid) | 0})`);
        await addPartitions(session, cut, lacking);
        await session.query('COMMIT');
        return;
      } catch (error) {
        const state = sqlstate(error);
        if ((state !== '55P03' && state !== '40P01') || n === attempts) throw error;
        await session.query('ROLLBACK');
      }
    }
  });
}

/** Within the caller's transaction. */
export async function addPartitions(session: Session, cut: Cut, months: Months): Promise<void> {
  const lacking = [...(await missingOf(session, cut, months))].sort();
  if (lacking.length === 0) return;
  const parent = tableIdent(cut.table);
  const taken = await namesIn(session, cut.table.schema);
  const statements: string[] = [];
  for (const month of lacking) {
    const name = freeName(cut.table.name, endingOf(month), taken);
    const part = tableIdent({ schema: cut.table.schema, name });
    const at = ident(cut.column);
    const rest =
      month === 'default'
        ? `, CONSTRAINT "no month" CHECK (${at} IS NULL OR ${at} < '0001-01-01' OR ${at} >= '10000-01-01')`
        : '';
    const bounds =
      month === 'default' ? 'DEFAULT' : `FOR VALUES FROM (${literal(month)}) TO (${literal(nextMonth(month))})`;
    statements.push(
      `CREATE TABLE ${part} (LIKE ${parent} INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE${rest})`,
      `ALTER TABLE ${parent} ATTACH PARTITION ${part} ${bounds}`,
    );
  }
  await session.query(statements.join(';\n'));
}

const endingOf = (month: string): string =>
  month === 'default' ? '_default' : `_p${month.slice(0, -3).replace('-', '_')}`;

async function missingOf(session: Session, { oid }: Cut, months: Months): Promise<Months> {
  if (months.size === 0) return months;
  const parts = await session.query<{ bound: string }>(
    `SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::oid`,
    [oid],
  );
  const ranges = parts.flatMap(({ bound }) => {
    const found = /^FOR VALUES FROM \((.*)\) TO \((.*)\)$/.exec(bound);
    return found ? [{ from: dayNumber(found[1] ?? ''), to: dayNumber(found[2] ?? '') }] : [];
  });
  const rest = parts.some(({ bound }) => bound === 'DEFAULT');
  return new Set(
    [...months].filter((month) => {
      if (month === 'default') return !rest;
      const day = dayNumber(month);
      return !ranges.some(({ from, to }) => from <= day && day < to);
    }),
  );
}

/** Of a bound as the server prints it, to the day: the partitions that are there need not be months. */
function dayNumber(text: string): number {
  if (text === 'MINVALUE') return Number.NEGATIVE_INFINITY;
  if (text === 'MAXVALUE') return Number.POSITIVE_INFINITY;
  const found = /^'?(\d+)-(\d\d)-(\d\d)/.exec(text);
  if (!found) return text.includes('-infinity') ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  const [, year, month, day] = found;
  const number = Number(year) * 10_000 + Number(month) * 100 + Number(day);
  return text.includes('BC') ? -number : number;
}

async function namesIn(session: Session, schema: string): Promise<Set<string>> {
  const rows = await session.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1`,
    [schema],
  );
  return new Set(rows.map((row) => row.name));
}

/** `orders_p2024_05`; long names are cut, and two of them may be cut alike. */
function freeName(table: string, ending: string, taken: Set<string>): string {
  for (let n = 0; ; n++) {
    const name = shortened(table, n === 0 ? ending : `${ending}_${n}`);
    if (taken.has(name)) continue;
    taken.add(name);
    return name;
  }
}

/** In the swap: partitions of the staging follow it into its schema, under names that tell what they are. */
export async function movePartitions(session: Session, work: Work): Promise<void> {
  const { schema } = work.name;
  const staging = stagingOf(work).name;
  const parts = await session.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass ORDER BY 1`,
    [tableIdent(work.name)],
  );
  const taken = await namesIn(session, schema);
  const statements = parts.flatMap(({ name }) => {
    const final = freeName(work.name.name, name.slice(staging.length), taken);
    return [
      `ALTER TABLE ${tableIdent({ schema: ledgerSchema, name })} SET SCHEMA ${ident(schema)}`,
      `ALTER TABLE ${tableIdent({ schema, name })} RENAME TO ${ident(final)}`,
    ];
  });
  if (statements.length > 0) await session.query(statements.join('; '));
}
