/** Makes everything a table needs before its first row: ownership, its database, the receiving table. */
import { GodwitError } from '../../../errors.ts';
import { swapsIn, type TableName, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { mysqlExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { type Dialect, dialectOf } from './dialect.ts';
import { sameTable, sweep } from './discard.ts';
import { adapt, changesOf } from './drift.ts';
import { createSql, type LaidColumn, type Parts, partsOf } from './layout.ts';
import { addNotes, databaseExists, workRow } from './ledger.ts';
import { type Books, book, idOf, receiverOf } from './names.ts';
import { notOwned, ownership, setOwner, thereIs } from './ownership.ts';
import { alone } from './session-mark.ts';
import { modeFor } from './sql-mode.ts';
import { assertStands, identify } from './state.ts';

/**
 * Every statement commits by itself, so each step is found done or not by what is there. One worker at a time, so that
 * two works that need one database do not make it twice, and none is taken away that another is about to use.
 */
export async function prepareWork(session: Session, books: Books, work: Work): Promise<void> {
  await refuseCollision(session, books, work);
  const known = await workRow(session, books, work);
  // A finished work has no staging any more when its swap came through: `publish` sees to that.
  if (known?.published || known?.finished) return;
  if (known && (await thereIs(session, receiverOf(books, work)))) return;
  await alone(session, books.database, () => makeAll(session, books, work));
}

async function makeAll(session: Session, books: Books, work: Work): Promise<void> {
  await refuseCollision(session, books, work);
  const receiver = receiverOf(books, work);
  const known = await workRow(session, books, work);
  const there = (await thereIs(session, receiver)) !== undefined;
  if (known && there) return;
  if (work.increment) await assertStands(session, books, work);
  await sweep(session, books, work);
  await own(session, books, work);
  const id = idOf(work);
  await modeFor(session, work);
  if (swapsIn(work)) {
    // Of a staging that is not there no chunk is durable; one without its work is half a discard.
    await session.query(`DELETE FROM ${book(books, 'chunk')} WHERE work = ?`, [id]);
    await session.run(`DROP TABLE IF EXISTS ${tableIdent(receiver)}`);
  }
  if (!work.increment) await makeDatabase(session, books, work);
  const notes = work.increment ? await keepFit(session, books, work) : await makeReceiver(session, books, work);
  await session.query(
    `INSERT IGNORE INTO ${book(books, 'work')} (id, installation, job_uid, target, run, schema_name, table_name, generation, mode, source_schema, source_table, notes, pending, prepared_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '[]', '[]', UTC_TIMESTAMP(6))`,
    [
      id,
      work.installation,
      work.jobUid,
      work.target,
      work.run,
      work.name.schema,
      work.name.name,
      work.generation,
      work.mode,
      work.source.name.schema,
      work.source.name.name,
    ],
  );
  await addNotes(session, books, work, notes);
}

async function refuseCollision(session: Session, books: Books, work: Work): Promise<void> {
  const collision = await sameTable(session, books, work);
  if (collision) throw collision;
}

/** The table is there, of a load or of another tool that `remember` was told of. It gets what is new at the source. */
async function keepFit(session: Session, books: Books, work: Work): Promise<string[]> {
  const changing = await changesOf(session, work);
  if (changing.length > 0) {
    await identify(session, books, work, 'changing');
    await adapt(session, work);
    await setOwner(session, books, work, true);
    await identify(session, books, work, 'changed');
  }
  return [];
}

async function own(session: Session, books: Books, work: Work): Promise<void> {
  const found = await ownership(session, work, books);
  const refused = notOwned(work, found);
  if (refused) throw refused;
  // A replaced table changes its owner when it is published; a dumping table now, with its first row.
  if (work.mode !== 'dumping' && found.owned) return;
  if (work.mode === 'dumping' && found.exists && !found.mine && work.existing === 'overwrite') {
    await session.run(`DROP TABLE ${tableIdent(work.name)}`);
  }
  const stays = work.mode === 'dumping' && found.exists && (found.mine || work.existing !== 'overwrite');
  await setOwner(session, books, work, stays);
}

async function makeDatabase(session: Session, books: Books, work: Work): Promise<void> {
  const { schema } = work.name;
  if (await databaseExists(session, schema)) return;
  // Remembered first: a cancel removes it if it is empty, whether or not the next statement came through.
  await remember(session, books, work, 'database', '');
  try {
    await session.run(`CREATE DATABASE ${ident(schema)} CHARACTER SET utf8mb4`);
  } catch (error) {
    // Somebody else made it in this moment: then it is theirs.
    await session.query(`DELETE FROM ${book(books, 'made')} WHERE kind = 'database' AND schema_name = ?`, [schema]);
    if (numberOf(error) !== 1007) throw error;
  }
}

const remember = (session: Session, books: Books, work: Work, kind: 'database' | 'table', name: string) =>
  session.query(
    `INSERT INTO ${book(books, 'made')} (kind, schema_name, name, installation, job_uid, made_at) VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(6))
     ON DUPLICATE KEY UPDATE installation = VALUES(installation), job_uid = VALUES(job_uid), made_at = VALUES(made_at)`,
    [kind, work.name.schema, name, work.installation, work.jobUid],
  );

async function makeReceiver(session: Session, books: Books, work: Work): Promise<string[]> {
  const receiver = receiverOf(books, work);
  // Dumping into a table that is there: refusals have compared its columns.
  if (work.mode === 'dumping' && (await thereIs(session, receiver))) {
    await adapt(session, work);
    await setOwner(session, books, work, true);
    return [];
  }
  if (work.mode === 'dumping') await remember(session, books, work, 'table', work.name.name);
  const notes = await createTable(session, receiver, work);
  if (work.mode === 'dumping') await setOwner(session, books, work, true);
  return notes;
}

/** What a table can be without, when this server does not know it: generated columns, defaults, invisibility, partitions. */
type Option = { readonly what: string; readonly without: (parts: Parts) => Parts };

/** Gives notes on what is not as at the source. */
async function createTable(session: Session, table: TableName, work: Work): Promise<string[]> {
  const dialect = await dialectOf(session, work);
  const whole = partsOf(work);
  if (whole.columns.some((column) => column.native.startsWith('timestamp'))) await plainTimestamps(session);
  const notes = [...substitutes(work, dialect), ...lostColumns(work, whole)];
  const make = (parts: Parts) => session.run(createSql(table, work, parts, dialect));
  try {
    await make(whole);
    return notes;
  } catch (error) {
    const options = optionsOf(whole);
    if (!lacking(error) || options.length === 0) throw error;
    const bare = options.reduce((parts, option) => option.without(parts), whole);
    await make(bare);
    const left: Option[] = [];
    for (const [i, option] of options.entries()) {
      await session.run(`DROP TABLE IF EXISTS ${tableIdent(table)}`);
      const without = [...left, ...options.slice(i + 1)].reduce((parts, other) => other.without(parts), whole);
      try {
        await make(without);
      } catch (second) {
        if (!lacking(second)) throw second;
        left.push(option);
        notes.push(`${tableText(work.name)}: ${option.what} cannot be made on the target [${numberOf(second) ?? ''}]`);
      }
    }
    await session.run(`DROP TABLE IF EXISTS ${tableIdent(table)}`);
    await make(left.reduce((parts, option) => option.without(parts), whole));
    return notes;
  }
}

/** Of what the statement says, not of the server's state or the login's rights. */
const lacking = (error: unknown): boolean =>
  error instanceof GodwitError && !error.retryable && error.code !== 'PRIVILEGE_MISSING'
    ? true
    : numberOf(error) === 1064;

function optionsOf(parts: Parts): Option[] {
  const columns = (change: (column: LaidColumn) => LaidColumn[]) => (from: Parts) => ({
    ...from,
    columns: from.columns.flatMap(change),
  });
  const options: Option[] = [];
  if (parts.partitioning) {
    options.push({ what: 'its partitioning', without: ({ partitioning, ...rest }) => rest });
  }
  for (const { name, plan, special } of parts.columns) {
    if (!plan && special?.generated) {
      options.push({
        what: `generated column ${name}`,
        without: columns((column) => (column.name === name ? [] : [column])),
      });
    } else if (special?.default !== undefined || special?.onUpdate !== undefined) {
      options.push({
        what: `the default of column ${name}`,
        without: columns((column) => [column.name === name ? undefaulted(column) : column]),
      });
    }
    if (special?.invisible) {
      options.push({
        what: `the invisibility of column ${name}`,
        without: columns((column) => [column.name === name ? shown(column) : column]),
      });
    }
  }
  return options;
}

const undefaulted = (column: LaidColumn): LaidColumn =>
  column.special ? { ...column, special: { ...column.special, default: undefined, onUpdate: undefined } } : column;

const shown = (column: LaidColumn): LaidColumn =>
  column.special ? { ...column, special: { ...column.special, invisible: undefined } } : column;

function substitutes(work: Work, { instead }: Dialect): string[] {
  return [...instead].map(
    ([from, to]) => `${tableText(work.name)}: the target has no collation ${from}; ${to} stands for it`,
  );
}

/** Generated columns whose expression speaks of a column that does not move under its name. */
function lostColumns(work: Work, { columns }: Parts): string[] {
  const here = new Set(columns.map((column) => column.name));
  const extras = mysqlExtras(work.source);
  return work.source.columns
    .filter(({ name }) => extras?.columns[name]?.generated && !here.has(name))
    .map(
      ({ name }) =>
        `${tableText(work.name)}: generated column ${name} is left out, a column it needs does not move under its name`,
    );
}

/** Older servers give the first TIMESTAMP of a table a default of their own. */
async function plainTimestamps(session: Session): Promise<void> {
  await session.run('SET SESSION explicit_defaults_for_timestamp = 1').catch((error: unknown) => {
    if (!(error instanceof GodwitError) || error.code === 'CONNECTION_FAILED') throw error;
  });
}
