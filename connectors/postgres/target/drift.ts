/** A table that stays while its source's columns change between runs (decision 16). */
import { swapsIn, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { columnSql, layout } from './layout.ts';

export type ColumnThere = {
  readonly name: string;
  readonly native: string;
  readonly nullable: boolean;
  readonly default: boolean;
  readonly generated: boolean;
  /** Of the primary key. */
  readonly key: boolean;
  /** A view or rule that uses it: its type cannot change. */
  readonly user: string | null;
};

export const columnsOf = (session: Session, oid: string): Promise<ColumnThere[]> =>
  session.query<ColumnThere>(
    `SELECT attname AS name, format_type(atttypid, atttypmod) AS native, NOT attnotnull AS nullable,
       atthasdef OR attidentity <> '' AS default, attgenerated <> '' AS generated,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY(i.indkey)) AS key,
       (SELECT min(pg_describe_object(d.classid, d.objid, 0)) FROM pg_depend d WHERE d.classid = 'pg_rewrite'::regclass
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum) AS user
     FROM pg_attribute a WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [oid],
  );

export type Drift = {
  /** What makes the table fit for the new rows. `optional`: a generated column that may turn out to be impossible here. */
  readonly changes: readonly { readonly column: string; readonly sql: string; readonly optional?: boolean }[];
  readonly notes: readonly string[];
  /** What stands in the way. */
  readonly differences: readonly string[];
};

/** Does the table of that name stay, and only change its rows? Else a new one with the source's columns takes its place. */
export const stays = (work: Work): boolean => !swapsIn(work) || work.swap === 'delete-insert';

/**
 * Cases, by column: 1 new at the source: added, without NOT NULL; 2 gone at the source: stays and fills with NULL; 3 a type
 * that holds all of the old one's values: altered; 4 any other type: in the way; 5 it may now be NULL: so there too.
 * `refuse` has every difference in the way; `ignore` changes no column (the plan has left new ones out). Without a word in the
 * work, what the rows do not need may differ and nothing is changed.
 */
export function driftOf(work: Work, there: readonly ColumnThere[], version: number): Drift {
  const policy = work.onSchemaChange;
  const changing = policy === 'add';
  const table = tableIdent(work.name);
  const changes: Drift['changes'][number][] = [];
  const notes: string[] = [];
  const differences: string[] = [];
  const change = (column: string, what: string, optional = false) =>
    changes.push({ column, sql: `ALTER TABLE ${table} ${what}`, ...(optional ? { optional } : {}) });
  const wanted = layout(work);
  for (const column of wanted) {
    const { final, native, plan, special } = column;
    const found = there.find((one) => one.name === final);
    const generated = plan === undefined && special?.generated !== undefined;
    if (!found) {
      const essential = plan?.constant !== undefined || work.key.includes(final);
      if (generated && policy === 'ignore') continue;
      if (!changing || essential) differences.push(`${final} is not there`);
      else {
        change(final, `ADD COLUMN ${columnSql({ ...column, name: final, notNull: false }, version)}`, generated);
        notes.push(`${final}: new at the source; the target's table gets it, NULL in the rows it has`);
      }
      continue;
    }
    // What increments bring fits a wider column as it is: the table may be one another tool has made.
    if (found.native !== native && !(work.increment && widens(native, found.native))) {
      const other = `${final} is ${found.native} there and ${native} at the source`;
      if (!changing || !widens(found.native, native)) differences.push(other);
      else if (found.user !== null) differences.push(`${other}, and ${found.user} uses it`);
      else {
        change(final, `ALTER COLUMN ${ident(final)} TYPE ${native}`);
        notes.push(`${final}: ${found.native} on the target becomes ${native}, as at the source`);
      }
    } else if (found.generated !== (special?.generated !== undefined)) {
      differences.push(`${final} is generated on one side only`);
    }
    if (!found.nullable && !column.notNull && plan) {
      if (!changing || found.key) differences.push(`${final} may not be NULL there`);
      else {
        change(final, `ALTER COLUMN ${ident(final)} DROP NOT NULL`);
        notes.push(`${final}: may be NULL at the source, and now on the target too`);
      }
    }
  }
  for (const column of there) {
    if (wanted.some((one) => one.final === column.name)) continue;
    const needed = !column.nullable && !column.default && !column.generated;
    const lenient = policy === 'add' || policy === 'ignore';
    if (policy === undefined ? swapsIn(work) || needed : !lenient || (needed && column.key) || !stays(work)) {
      differences.push(`${column.name} is there only`);
    } else if (lenient && !column.generated) {
      if (needed) change(column.name, `ALTER COLUMN ${ident(column.name)} DROP NOT NULL`);
      const filled = column.default ? 'gets its default' : 'fills with NULL';
      notes.push(`${column.name}: not at the source; it stays on the target and ${filled}`);
    }
  }
  return { changes, notes, differences };
}

/** Within the caller's transaction. */
export async function adapt(session: Session, work: Work, oid: string): Promise<void> {
  if (work.onSchemaChange === undefined || work.onSchemaChange === 'refuse') return;
  const { changes } = driftOf(work, await columnsOf(session, oid), session.version);
  const must = changes.filter((one) => !one.optional);
  if (must.length > 0) await session.query(must.map((one) => one.sql).join(';\n'));
  for (const { sql } of changes.filter((one) => one.optional)) {
    // A function or a column its expression needs may not be here: then it is left out, as in a new table.
    await session.query('SAVEPOINT generated');
    try {
      await session.query(sql);
    } catch {
      await session.query('ROLLBACK TO SAVEPOINT generated');
    }
    await session.query('RELEASE SAVEPOINT generated');
  }
}

const integers = ['smallint', 'integer', 'bigint'];
const digitsOf: Readonly<Record<string, number>> = { smallint: 5, integer: 10, bigint: 19 };

/** Does `to` hold every value of `from`, and show it as before? By the server's own spellings. */
export function widens(from: string, to: string): boolean {
  const [a, b] = [parsed(from), parsed(to)];
  if (integers.includes(from) && integers.includes(to)) return integers.indexOf(from) < integers.indexOf(to);
  if (a.name === 'character varying') {
    if (to === 'text') return true;
    return b.name === 'character varying' && (b.first === undefined || (a.first !== undefined && b.first >= a.first));
  }
  if (a.name === 'bit varying' && b.name === 'bit varying') {
    return b.first === undefined || (a.first !== undefined && b.first >= a.first);
  }
  if (b.name === 'numeric') {
    if (b.first === undefined) return a.name === 'numeric' || integers.includes(from);
    const [digits, scale] = [b.first, b.second ?? 0];
    const whole = digitsOf[from];
    if (whole !== undefined) return scale >= 0 && digits - scale >= whole;
    // The same scale: another one would write 1.5 as 1.50.
    return a.name === 'numeric' && a.first !== undefined && (a.second ?? 0) === scale && digits >= a.first;
  }
  const timed = /^(time|timestamp)(\(\d\))?( with(out)? time zone)$/;
  const [x, y] = [timed.exec(from), timed.exec(to)];
  if (x && y && x[1] === y[1] && x[3] === y[3]) return Number(x[2]?.[1] ?? 6) <= Number(y[2]?.[1] ?? 6);
  return false;
}

function parsed(native: string): { name: string; first?: number; second?: number } {
  const found = /^([a-z ]+)\((\d+)(?:,(-?\d+))?\)$/.exec(native);
  if (!found) return { name: native };
  const [, name = '', first, second] = found;
  return { name, first: Number(first), ...(second === undefined ? {} : { second: Number(second) }) };
}
