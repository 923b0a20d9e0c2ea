/**
 * A chunk of an increment, from its temporary table into the table people read. By the key: rows that are there with other
 * values are updated, those that are not there are inserted, and for equal ones nothing is written. Equal means the same bytes of
 * every column (`record_image_ne`): no collation, no `1.0 = 1.00`, no `1 mon = 30 days`, and types without an equality operator
 * (json, xml, point) as well.
 */
import type { Work } from '../../contract.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { columnList, ident, tableIdent } from '../sql.ts';
import { makePartitions, monthsIn } from './partitions.ts';
import { affected, type Facts, temporary } from './temporary.ts';

export type Merged = { readonly inserted: number; readonly updated: number };

type Words = {
  readonly table: string;
  readonly key: readonly string[];
  /** `t` is the table, `n` the new rows. */
  readonly match: string;
  readonly columns: readonly string[];
  /** The assignments of an update from the named rows, and the condition that they change something; empty when nothing could. */
  readonly change: (from: string) => { readonly set: string; readonly differs: string } | undefined;
};

const incoming = tableIdent(temporary);

export async function merge(
  session: Session,
  pool: SessionPool,
  { work, facts, rows }: { readonly work: Work; readonly facts: Facts; readonly rows: number },
): Promise<Merged> {
  if (rows === 0) return { inserted: 0, updated: 0 };
  const words = wordsOf(work, facts);
  await tune(session, facts, { rows, table: incoming, key: words.key });
  const distinct = rows - (rows > 1 ? await dropEarlier(session, words.key) : 0);
  // Without a unique index over the key alone, two chunks at once could both find that a row is not there.
  if (!facts.unique) await oneAtATime(session, facts);
  if (facts.month !== null) {
    const cut = { table: work.name, oid: facts.oid, column: facts.month };
    await makePartitions(pool, cut, await monthsIn(session, incoming, facts.month));
  }
  const keep = work.increment?.existing === 'keep';
  if (keep) return { inserted: await insertNew(session, words, facts, true), updated: 0 };
  if (facts.month !== null && !work.key.includes(facts.month))
    return await mergeAcross(session, words, { month: facts.month, distinct });
  const updated = await update(session, words, incoming, words.match);
  // Each row changed one: none is left that could be new.
  if (updated === distinct) return { inserted: 0, updated };
  return { inserted: await insertNew(session, words, facts, false), updated };
}

function wordsOf(work: Work, facts: Facts): Words {
  const there = new Map(facts.columns.map((column) => [column.name, column]));
  const natives = new Map(work.columns.map((column) => [column.name, column.native]));
  const columns = work.columns.map((column) => column.name).filter((name) => !there.get(name)?.generated);
  const changing = columns.filter((name) => !(work.key.includes(name) && oneSpelling(natives.get(name) ?? '')));
  return {
    table: tableIdent(work.name),
    key: work.key,
    match: work.key.map((name) => `t.${ident(name)} ${facts.operators[name] ?? '='} n.${ident(name)}`).join(' AND '),
    columns,
    change(from) {
      if (changing.length === 0) return undefined;
      const all = (of: string) => `ROW(${changing.map((name) => `${of}.${ident(name)}`).join(', ')})`;
      const set = changing.map((name) => `${ident(name)} = ${from}.${ident(name)}`).join(', ');
      return { set, differs: `pg_catalog.record_image_ne(${all('t')}, ${all(from)})` };
    },
  };
}

/** Types whose equal values are the same bytes: a key of such a type needs no update. (Texts may have a lenient collation.) */
const oneSpelling = (native: string): boolean =>
  /^(smallint|integer|bigint|uuid|date|bytea|timestamp(\(\d\))? with(out)? time zone)$/.test(native);

/**
 * Few rows against many are looked up in the key's index, whatever the server thinks: it counts on a cold cache, and would read
 * the whole table once per chunk.
 */
export async function tune(
  session: Session,
  facts: Pick<Facts, 'leading' | 'rows'>,
  { rows, table, key }: { readonly rows: number; readonly table: string; readonly key: readonly string[] },
): Promise<void> {
  if (facts.leading && rows * 5 < facts.rows) {
    await session.query('SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off');
    return;
  }
  if (rows < 1000) return;
  await session.query(
    `SELECT set_config('work_mem', greatest(setting::int8, 65536)::text || 'kB', true) FROM pg_settings WHERE name = 'work_mem'`,
  );
  await session.query(`ANALYZE ${table} (${columnList(key)})`);
}

/** A source without snapshots may give a row twice. In a table of this transaction a later row lies behind an earlier one. */
async function dropEarlier(session: Session, key: readonly string[]): Promise<number> {
  const columns = columnList(key);
  const [twice] = await session.query(`SELECT 1 FROM ${incoming} GROUP BY ${columns} HAVING count(*) > 1 LIMIT 1`);
  if (!twice) return 0;
  return await affected(
    session,
    `DELETE FROM ${incoming} WHERE ctid IN (SELECT ctid FROM (
       SELECT ctid, row_number() OVER (PARTITION BY ${columns} ORDER BY ctid DESC) AS n FROM ${incoming}) x WHERE n > 1)`,
  );
}

const merging = 7160132;

/** Until the end of the transaction. Who waits holds no lock of the table; a newer attempt ends it. */
async function oneAtATime(session: Session, { oid }: Facts): Promise<void> {
  const [before] = await session.query<{ ms: string }>(
    `SELECT current_setting('lock_timeout') AS ms, set_config('lock_timeout', '10min', true)`,
  );
  await session.query(`SELECT pg_advisory_xact_lock(${merging}, ${Number(oid) | 0})`);
  await session.query(`SELECT set_config('lock_timeout', $1, true)`, [before?.ms ?? '5s']);
}

async function update(session: Session, words: Words, from: string, match: string): Promise<number> {
  const change = words.change('n');
  if (!change) return 0;
  return await affected(
    session,
    `UPDATE ${words.table} AS t SET ${change.set} FROM ${from} AS n WHERE ${match} AND ${change.differs}`,
  );
}

/** Those that are not there. One that another chunk brings at this very moment is waited for, and then it is an update. */
async function insertNew(session: Session, words: Words, facts: Facts, keep: boolean): Promise<number> {
  const absent = `NOT EXISTS (SELECT FROM ${words.table} AS t WHERE ${words.match})`;
  const change = words.change('EXCLUDED');
  const otherwise = keep || !change ? 'DO NOTHING' : `DO UPDATE SET ${change.set} WHERE ${change.differs}`;
  const conflict = facts.unique ? ` ON CONFLICT (${columnList(words.key)}) ${otherwise}` : '';
  return await affected(session, insertSql(words, incoming, absent) + conflict);
}

function insertSql({ table, columns }: Words, from: string, condition: string): string {
  const list = columns.map((name) => `n.${ident(name)}`).join(', ');
  return `INSERT INTO ${table} AS t (${columnList(columns)}) OVERRIDING SYSTEM VALUE SELECT ${list} FROM ${from} AS n WHERE ${condition}`;
}

const elsewhere = 'godwit_elsewhere';

/**
 * A partitioned table whose key does not tell the partition (decision 23). Most rows are where their column says: one lookup in one
 * partition. Only those that are not are looked for in all partitions; what is found there moves.
 */
async function mergeAcross(
  session: Session,
  words: Words,
  { month, distinct }: { readonly month: string; readonly distinct: number },
): Promise<Merged> {
  const at = ident(month);
  const here = `${words.match} AND t.${at} = n.${at}`;
  const absent = [here, `${words.match} AND t.${at} IS NULL AND n.${at} IS NULL`]
    .map((match) => `NOT EXISTS (SELECT FROM ${words.table} AS t WHERE ${match})`)
    .join(' AND ');
  const inPlace = await update(session, words, incoming, here);
  if (inPlace === distinct) return { inserted: 0, updated: inPlace };
  await session.query(
    `CREATE TEMPORARY TABLE ${elsewhere} ON COMMIT DROP AS SELECT n.* FROM ${incoming} AS n
     WHERE NOT EXISTS (SELECT FROM ${words.table} AS t WHERE ${here})`,
  );
  const others = `pg_temp.${elsewhere}`;
  const [some] = await session.query(`SELECT 1 FROM ${others} LIMIT 1`);
  if (!some) return { inserted: 0, updated: inPlace };
  const moved = await update(session, words, others, words.match);
  return { inserted: await affected(session, insertSql(words, others, absent)), updated: inPlace + moved };
}
