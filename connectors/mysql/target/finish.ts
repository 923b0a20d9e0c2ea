/**
 * What a staging gets after its rows: the other indexes, checks, statistics. Each one is found done by its name, so that a
 * finish that was interrupted goes on where it was. What the server cannot make is left out with a note; rows that break
 * a key are an error.
 */
import { GodwitError } from '../../../errors.ts';
import { swapsIn, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { type MysqlExtras, mysqlExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { type Dialect, dialectOf } from './dialect.ts';
import { indexesOf, indexSql, inlineIndexes, speaksOfMoved } from './layout.ts';
import { addNotes, notPrepared, release, takeOver, workRow } from './ledger.ts';
import { type Books, book, idOf, receiverOf, stagingOf } from './names.ts';
import { thereIs } from './ownership.ts';
import { modeFor } from './sql-mode.ts';

export async function finishWork(session: Session, books: Books, work: Work): Promise<void> {
  const row = await workRow(session, books, work);
  if (!row) throw notPrepared(work);
  if (row.finished || row.published) return;
  await modeFor(session, work);
  if (swapsIn(work)) {
    await takeOver(session, books, work);
    if (!(await thereIs(session, stagingOf(books, idOf(work))))) throw notPrepared(work);
    await addNotes(session, books, work, await complete(session, books, work));
  }
  // An increment leaves that to the server, which does it when a tenth of the rows is new.
  if (!work.increment) await session.run(`ANALYZE TABLE ${tableIdent(receiverOf(books, work))}`);
  await session.query(`UPDATE ${book(books, 'work')} SET finished_at = UTC_TIMESTAMP(6) WHERE id = ?`, [idOf(work)]);
  if (swapsIn(work)) await release(session, books, work);
}

type Step = {
  readonly what: string;
  readonly sql: string;
  /** By another name, where its own is taken. */
  readonly renamed?: string;
};

/** One ALTER for all of them, which reads the table once; when it fails, each by itself. */
async function complete(session: Session, books: Books, work: Work): Promise<string[]> {
  const extras = mysqlExtras(work.source);
  if (!extras) return [];
  const dialect = await dialectOf(session, work);
  const staging = stagingOf(books, idOf(work));
  const [indexes, checks] = [await presentIndexes(session, staging), await presentChecks(session, staging, dialect)];
  const { steps, alone, notes } = stepsOf(work, extras, dialect, indexes, checks);
  const alter = (step: Step) => session.run(`ALTER TABLE ${tableIdent(staging)} ${step.sql}`);
  if (steps.length > 0) {
    const all = { what: steps.map((step) => step.what).join(', '), sql: steps.map((step) => step.sql).join(', ') };
    const failed = await tried(() => alter(all));
    if (failed && steps.length === 1) notes.push(...left(work, all, failed));
    else if (failed) alone.unshift(...steps);
  }
  for (const step of alone) {
    const { renamed } = step;
    let failed = await tried(() => alter(step));
    if (renamed && numberOf(failed) === nameTaken) failed = await tried(() => alter({ ...step, sql: renamed }));
    if (failed) notes.push(...left(work, step, failed));
  }
  return notes;
}

/** In MySQL the name of a check is its database's, and all stagings lie in one; MariaDB calls each table's first one alike. */
const nameTaken = 3822;

async function tried(work: () => Promise<unknown>): Promise<GodwitError | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!(error instanceof GodwitError) || error.retryable || error.code === 'PRIVILEGE_MISSING') throw error;
    return error;
  }
}

/** Rows that break what the source keeps are an error; what this server does not know is a note. */
function left(work: Work, step: Step, error: GodwitError): string[] {
  const table = tableText(work.name);
  if (error.code === 'CONSTRAINT_BROKEN' || error.code === 'VALUE_REFUSED') {
    throw new GodwitError(error.code, `${error.message}: ${step.what} of ${table}. The rows stay in their staging.`, {
      ...error.where,
      table,
      target: work.target,
      cause: error.cause,
    });
  }
  return [`${table}: ${step.what} cannot be made on the target [${numberOf(error) ?? ''}]`];
}

function stepsOf(
  work: Work,
  extras: MysqlExtras,
  dialect: Dialect,
  present: ReadonlySet<string>,
  checked: ReadonlySet<string>,
): { steps: Step[]; alone: Step[]; notes: string[] } {
  const table = tableText(work.name);
  const { indexes, lost } = indexesOf(work);
  const notes = lost.map((name) => `${table}: index ${name} is left out, a column of it does not move under its name`);
  const inline = new Set(inlineIndexes(work).map((index) => index.name));
  const steps: Step[] = [];
  const alone: Step[] = [];
  for (const index of indexes) {
    if (inline.has(index.name) || present.has(index.name.toLowerCase())) continue;
    // InnoDB makes one of these at a time.
    (index.type === 'FULLTEXT' ? alone : steps).push({
      what: `index ${index.name}`,
      sql: `ADD ${indexSql(index, dialect)}`,
    });
  }
  for (const check of extras.checks) {
    const other = `${check.name.slice(0, 54)}_${idOf(work).slice(0, 8)}`;
    if (checked.has(check.name.toLowerCase()) || checked.has(other.toLowerCase())) continue;
    if (!hasChecks(dialect)) {
      notes.push(`${table}: check ${check.name} is left out, this server keeps none`);
      continue;
    }
    if (!speaksOfMoved(work, check.expression)) {
      notes.push(`${table}: check ${check.name} is left out, a column of it does not move under its name`);
      continue;
    }
    const enforced = check.enforced || dialect.flavor === 'mariadb' ? '' : ' NOT ENFORCED';
    const add = (name: string) => `ADD CONSTRAINT ${ident(name)} CHECK (${check.expression})${enforced}`;
    alone.push({ what: `check ${check.name}`, sql: add(check.name), renamed: add(other) });
  }
  if (extras.engine && extras.engine !== 'InnoDB') notes.push(`${table}: ${extras.engine} at the source, InnoDB here`);
  if (extras.versioned) notes.push(`${table}: the history of its rows stays at the source`);
  return { steps, alone, notes };
}

/** MySQL before 8.0.16 reads checks and forgets them. */
const hasChecks = ({ flavor, version: [major, minor, patch] }: Dialect): boolean =>
  flavor === 'mariadb' || major > 8 || (major === 8 && (minor > 0 || patch >= 16));

export async function presentIndexes(
  session: Session,
  { schema, name }: { schema: string; name: string },
): Promise<Set<string>> {
  const rows = await session.query<{ name: string }>(
    `SELECT DISTINCT INDEX_NAME AS name FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?`,
    [schema, name],
  );
  return new Set(rows.map((row) => row.name.toLowerCase()));
}

export async function presentChecks(
  session: Session,
  { schema, name }: { schema: string; name: string },
  dialect: { readonly flavor: Dialect['flavor']; readonly version: Dialect['version'] },
): Promise<Set<string>> {
  if (!hasChecks(dialect as Dialect)) return new Set();
  const rows = await session.query<{ name: string }>(
    `SELECT CONSTRAINT_NAME AS name FROM information_schema.TABLE_CONSTRAINTS
     WHERE CONSTRAINT_TYPE = 'CHECK' AND TABLE_SCHEMA = ? AND TABLE_NAME = ?`,
    [schema, name],
  );
  return new Set(rows.map((row) => row.name.toLowerCase()));
}
