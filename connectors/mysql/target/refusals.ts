/** What a plan must know of the target before anything is written there. Writes nothing. */
import { GodwitError } from '../../../errors.ts';
import { type ExistingTable, swapsIn, type TableName, tableText, type Work } from '../../contract.ts';
import { mysqlExtras } from '../extras.ts';
import type { Flavor, Session } from '../session.ts';
import { dialectOf } from './dialect.ts';
import { columnsOf, driftOf, stays } from './drift.ts';
import { sizeOf } from './fit.ts';
import { keysTo } from './foreign-keys.ts';
import { inlineIndexes, layout } from './layout.ts';
import { databaseExists } from './ledger.ts';
import { withoutKey } from './merge.ts';
import type { Books } from './names.ts';
import { isEmpty, jobOf, notOwned, ownership, thereIs } from './ownership.ts';
import { lackingIn } from './privileges.ts';

export async function refusalsOf(session: Session, work: Work, books: Books | undefined): Promise<GodwitError[]> {
  const where = { table: tableText(work.name), target: work.target };
  const wrong = names(work);
  // The server could not even be asked.
  if (wrong.length > 0) return wrong;
  const impossible = sizes(work, session.flavor);
  const owner = await ownership(session, work, books);
  const refused = [notOwned(work, owner), ...impossible, ...(await privileges(session, work, books))];
  if (owner.there) {
    if (owner.there.kind !== 'BASE TABLE') {
      refused.push(new GodwitError('TARGET_DIFFERS', `${where.table} exists on the target and is no table.`, where));
    } else {
      const keeps = !swapsIn(work) || work.existing === 'adopt' || work.swap === 'delete-insert';
      const fresh = work.mode === 'dumping' && work.existing === 'overwrite' && !owner.mine;
      if (keeps && !fresh) {
        refused.push(...(await otherColumns(session, work)));
        if (stays(work)) refused.push(...unfit(work, owner.there.engine));
      }
      if (swapsIn(work)) refused.push(...(await notCarried(session, work)));
      if (work.increment) refused.push(await withoutKey(session, work));
    }
  }
  return refused.filter((error) => error !== undefined);
}

// ── Names and sizes ─────────────────────────────────────────────────────────────────────────────────────────────────

const longestName = 64;

function names(work: Work): GodwitError[] {
  const where = { table: tableText(work.name), target: work.target };
  const errors: GodwitError[] = [];
  const said = [
    ['database', work.name.schema],
    ['table', work.name.name],
    ...layout(work).map((column) => ['column', column.name]),
  ] as const;
  for (const [what, name] of said) {
    const column = what === 'column' ? { column: name } : {};
    const refuse = (code: 'NAME_TOO_LONG' | 'TYPE_REFUSED', why: string) =>
      errors.push(
        new GodwitError(code, `The name "${name}" of a ${what} ${why}. Give it another one in the mapping.`, {
          ...where,
          ...column,
        }),
      );
    if ([...(name ?? '')].length > longestName)
      refuse('NAME_TOO_LONG', `has ${[...(name ?? '')].length} characters; MySQL takes ${longestName}`);
    else if (!name || / $/.test(name))
      refuse('TYPE_REFUSED', 'is empty or ends with a blank, which MySQL does not take');
    else if (/[\0\u{10000}-\u{10ffff}]/u.test(name))
      refuse('TYPE_REFUSED', 'has a character that MySQL does not take in names');
  }
  const seen = new Map<string, string>();
  for (const { name } of layout(work)) {
    const other = seen.get(name.toLowerCase());
    if (other !== undefined) {
      const message = `Columns "${other}" and "${name}" of ${where.table} differ only in case; to MySQL they are one. Rename one with col_rename.`;
      errors.push(new GodwitError('NAME_COLLISION', message, { ...where, column: name }));
    }
    seen.set(name.toLowerCase(), name);
  }
  return errors;
}

/** InnoDB's own limits; of columns from another system, whose sizes are ours. MySQL's own fitted before. */
const mostColumns = 1017;
const mostKeyColumns = 16;
const keyBytes = 3072;
const rowBytes = 65_535;
const pageBytes = 8126;
/** Of a record, before its values: header, row and transaction ids, and a bit for each NULL beside them. */
const recordBytes = 5 + 6 + 6 + 7;

/** What a column may take of a page, as each server reckons: a long value lies elsewhere, and its place in the row. */
function inPage(native: string, bytes: number, flavor: Flavor): number {
  const long = native.startsWith('long');
  if (!long && !native.startsWith('var')) return bytes;
  if (flavor === 'mysql') return (long ? 40 : Math.min(40, bytes)) + 1;
  // One of up to 255 bytes never lies elsewhere.
  return (!long && bytes - 2 <= 255 ? bytes - 2 : 20) + 1;
}

function sizes(work: Work, flavor: Flavor): GodwitError[] {
  const where = { table: tableText(work.name), target: work.target };
  const columns = layout(work);
  const refuse = (message: string) => [new GodwitError('ROW_TOO_LARGE', message, where)];
  if (columns.length === 0) {
    return [new GodwitError('TYPE_REFUSED', `${where.table} has no columns; MySQL has no such tables.`, where)];
  }
  if (columns.length > mostColumns)
    return refuse(`${where.table} has ${columns.length} columns; InnoDB takes ${mostColumns}.`);
  if (work.key.length > mostKeyColumns) {
    return refuse(`The key of ${where.table} has ${work.key.length} columns; InnoDB takes ${mostKeyColumns}.`);
  }
  if (mysqlExtras(work.source)) return [];
  const bytes = columns.map((column) => sizeOf(column.native));
  const key = columns.reduce((sum, column, i) => sum + (work.key.includes(column.name) ? (bytes[i] ?? 0) : 0), 0);
  const open = columns.find((column) => work.key.includes(column.name) && /^long(text|blob)/.test(column.native));
  if (open)
    return refuse(
      `Column ${open.name} of the key of ${where.table} is ${open.native}, which MySQL cannot index whole.`,
    );
  // Two bytes of each text's length do not count in the key.
  if (key - 2 * work.key.length > keyBytes)
    return refuse(`The key of ${where.table} has up to ${key} bytes; InnoDB takes ${keyBytes}.`);
  const row = bytes.reduce((sum, size) => sum + size, 0);
  if (row > rowBytes)
    return refuse(`A row of ${where.table} has up to ${row} bytes without its long texts; MySQL takes ${rowBytes}.`);
  const page = columns.reduce(
    (sum, { native }, i) => sum + inPage(native, bytes[i] ?? 0, flavor),
    recordBytes + Math.ceil(columns.length / 8),
  );
  if (page >= pageBytes) {
    return refuse(
      `${where.table} has ${columns.length} columns, of which a row takes up to ${page} bytes of a page; InnoDB takes ${pageBytes}. Leave some out with exclude_columns.`,
    );
  }
  return [];
}

// ── Privileges ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function privileges(session: Session, work: Work, books: Books | undefined): Promise<GodwitError[]> {
  const where = { table: tableText(work.name), target: work.target };
  const errors: GodwitError[] = [];
  const lacking = await lackingIn(session, work.name.schema);
  if (lacking.length > 0) {
    const there = await databaseExists(session, work.name.schema);
    const begin = there
      ? `In database ${work.name.schema}`
      : `Database ${work.name.schema} is not there on the target, and in it`;
    const message = `${begin} the login lacks ${lacking.join(', ')}: GRANT ${lacking.join(', ')} ON \`${work.name.schema}\`.* to it.`;
    errors.push(new GodwitError('PRIVILEGE_MISSING', message, where));
  }
  if (
    books === undefined &&
    (await lackingIn(session, '_godwit')).length > 0 &&
    (await lackingIn(session, work.name.schema)).length > 0
  ) {
    const message = `Godwit's checkpoints have no place on the target: GRANT ALL ON \`_godwit\`.* to the login.`;
    errors.push(new GodwitError('PRIVILEGE_MISSING', message, where));
  }
  if (work.mode !== 'replace' && work.mode !== 'dumping') {
    const own = (await lackingIn(session, '_godwit')).length === 0;
    const beside = books?.database ?? (own ? '_godwit' : work.name.schema);
    const temporary = 'CREATE TEMPORARY TABLES';
    if ((await lackingIn(session, beside, [temporary])).length > 0) {
      const message = `Increments need temporary tables on the target: GRANT ${temporary} ON \`${beside}\`.* to the login.`;
      errors.push(new GodwitError('PRIVILEGE_MISSING', message, where));
    }
  }
  if (work.key.length === 0 && inlineIndexes(work).length === 0 && (await needsKey(session))) {
    const message = `${where.table} has no key, and the target takes no table without one (sql_require_primary_key). Name one with primary_key.`;
    errors.push(new GodwitError('TARGET_DIFFERS', message, where));
  }
  return errors;
}

async function needsKey(session: Session): Promise<boolean> {
  const rows = await session.query<{ Value: string }>(
    `SHOW VARIABLES WHERE Variable_name IN ('sql_require_primary_key', 'innodb_force_primary_key')`,
  );
  return rows.some((row) => row.Value === 'ON');
}

// ── The table that is there ─────────────────────────────────────────────────────────────────────────────────────────

async function otherColumns(session: Session, work: Work): Promise<GodwitError[]> {
  const { differences } = driftOf(work, await columnsOf(session, work.name), await dialectOf(session, work));
  if (differences.length === 0) return [];
  const table = tableText(work.name);
  const message = `${table} exists on the target with other columns: ${differences.join('; ')}.`;
  return [new GodwitError('TARGET_DIFFERS', message, { table, target: work.target })];
}

/** Rows and checkpoint must come and go together. */
function unfit(work: Work, engine: string): GodwitError[] {
  if (/^innodb$/i.test(engine)) return [];
  const table = tableText(work.name);
  const message = `${table} is ${engine} on the target, which has no transactions: ALTER TABLE … ENGINE = InnoDB.`;
  return [new GodwitError('TARGET_DIFFERS', message, { table, target: work.target })];
}

/** What a run would change in a table that stays, in words. */
export async function driftNotes(session: Session, work: Work): Promise<readonly string[]> {
  if (!stays(work) || !(await thereIs(session, work.name))) return [];
  return driftOf(work, await columnsOf(session, work.name), await dialectOf(session, work)).notes;
}

/**
 * Views and privileges go by names: they have the new table when it is there. Foreign keys from outside are turned to it.
 * Triggers would stay with the old table, or fire for every row that is exchanged in it.
 */
async function notCarried(session: Session, work: Work): Promise<GodwitError[]> {
  const table = tableText(work.name);
  const found = (await triggersOf(session, work.name)).map((name) => `trigger ${name}`);
  if (work.swap === 'rename') found.push(...(await usedColumns(session, work)));
  if (found.length === 0) return [];
  const message = `${found.join(', ')}: cannot be carried from the old ${table} to the new one.`;
  return [new GodwitError('SWAP_IMPOSSIBLE', message, { table, target: work.target })];
}

async function triggersOf(session: Session, { schema, name }: TableName): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    `SELECT TRIGGER_NAME AS name FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ?`,
    [schema, name],
  );
  return rows.map((row) => row.name);
}

/** Views and foreign keys from outside that need a column the new table has not. */
async function usedColumns(session: Session, work: Work): Promise<string[]> {
  const next = new Map(layout(work).map((column) => [column.name.toLowerCase(), column]));
  const found: string[] = [];
  for (const key of await keysTo(session, work.name)) {
    if (key.schema === work.name.schema && key.table === work.name.name) continue;
    const lacking = key.referencedColumns.find((column) => !next.has(column.toLowerCase()));
    const what = `foreign key ${key.constraint} of ${key.schema}.${key.table}`;
    if (lacking !== undefined) found.push(`${what} (needs column ${lacking})`);
    else if (!isIndexed(work, key.referencedColumns))
      found.push(`${what} (needs an index of ${key.referencedColumns.join(', ')})`);
  }
  const gone = (await columnsOf(session, work.name)).filter((column) => !next.has(column.name.toLowerCase()));
  if (gone.length === 0) return found;
  const views = await session.query<{ view: string; text: string }>(
    `SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS view, VIEW_DEFINITION AS text FROM information_schema.VIEWS
     WHERE LOCATE(?, VIEW_DEFINITION) > 0`,
    [`\`${work.name.schema}\`.\`${work.name.name}\``],
  );
  for (const { view, text } of views) {
    const lacking = gone.find((column) => text.includes(`\`.\`${column.name}\``));
    if (lacking) found.push(`view ${view} (needs column ${lacking.name})`);
  }
  return found;
}

const isIndexed = (work: Work, columns: readonly string[]): boolean => {
  const extras = mysqlExtras(work.source);
  const leading = (names: readonly (string | undefined)[]) =>
    columns.every((column, i) => names[i]?.toLowerCase() === column.toLowerCase());
  return leading(work.key) || (extras?.indexes ?? []).some((index) => leading(index.parts.map((part) => part.column)));
};

export async function describeTable(
  session: Session,
  name: TableName,
  books: Books | undefined,
): Promise<ExistingTable | undefined> {
  const there = await thereIs(session, name);
  if (!there) return undefined;
  const columns = await columnsOf(session, name);
  const owner = books ? await jobOf(session, books, name) : undefined;
  return {
    name,
    columns: columns.map(({ name: column, native, nullable }) => ({ name: column, native, nullable })),
    ...(owner === undefined ? {} : { owner }),
    empty: await isEmpty(session, name, there),
  };
}
