/** What must be true of a target before a run. */
import type { Check } from '../../contract.ts';
import { checkClock, checkVersion, reach } from '../check.ts';
import type { Session } from '../session.ts';
import type { MysqlAddress } from '../settings.ts';
import { ident } from '../sql.ts';
import { databaseExists, findBooks } from './ledger.ts';
import { forTables, lackingIn } from './privileges.ts';

export async function checkTarget(address: MysqlAddress): Promise<Check[]> {
  // Not the target's own database: the first run makes it when it is not there yet.
  const reached = await reach({ ...address, database: 'information_schema' });
  if (!('session' in reached)) return reached.checks;
  await using session = reached.session;
  const row = await variables(session);
  return [
    ...reached.checks,
    checkVersion(session),
    await checkClock(session),
    writable(row),
    loading(row),
    binaryLog(row),
    names(row),
    await engine(session),
    await privileges(session, address),
  ];
}

const asked = [
  'read_only',
  'local_infile',
  'max_allowed_packet',
  'binlog_format',
  'log_bin',
  'lower_case_table_names',
] as const;
/** In upper case; one that this server does not have (any more) is empty. */
type Variables = Readonly<Record<(typeof asked)[number], string>>;

async function variables(session: Session): Promise<Variables> {
  const rows = await session.query<{ Variable_name: string; Value: string }>(
    `SHOW VARIABLES WHERE Variable_name IN (${asked.map((name) => `'${name}'`).join(', ')})`,
  );
  const found = new Map(rows.map((row) => [row.Variable_name.toLowerCase(), row.Value.toUpperCase()]));
  return Object.fromEntries(asked.map((name) => [name, found.get(name) ?? ''])) as Variables;
}

function writable(row: Variables): Check {
  const off = ['', '0', 'OFF'].includes(row.read_only);
  if (off) return { name: 'writable', outcome: 'pass', detail: 'The server takes writes.' };
  return {
    name: 'writable',
    outcome: 'fail',
    detail: 'The server is read-only.',
    fix: 'Give the address of the primary.',
  };
}

async function engine(session: Session): Promise<Check> {
  const [row] = await session.query<{ support: string }>(
    `SELECT SUPPORT AS support FROM information_schema.ENGINES WHERE ENGINE = 'InnoDB'`,
  );
  if (row && /^(YES|DEFAULT)$/i.test(row.support)) return { name: 'engine', outcome: 'pass', detail: 'InnoDB.' };
  return {
    name: 'engine',
    outcome: 'fail',
    detail: 'InnoDB is off: there are no transactions.',
    fix: 'Switch InnoDB on.',
  };
}

async function privileges(session: Session, { database, user }: MysqlAddress): Promise<Check> {
  const name = 'privileges';
  const books = await findBooks(session, database);
  const own = books && books.database !== database ? [] : await lackingIn(session, '_godwit');
  const lacking = await lackingIn(session, database);
  const grants = [`GRANT ${forTables.join(', ')}, REFERENCES ON ${ident(database)}.* TO '${user}'`];
  const there = await databaseExists(session, database);
  if (lacking.length > 0) {
    const detail = `In ${database} the login lacks ${lacking.join(', ')}.`;
    return { name, outcome: 'fail', detail, fix: `${grants.join('; ')}.` };
  }
  if (own.length > 0 && !books) {
    const detail = `No database _godwit may be made: checkpoints and stagings will be tables _godwit_… in ${database}.`;
    return { name, outcome: 'warn', detail, fix: `GRANT ALL ON \`_godwit\`.* TO '${user}'.` };
  }
  const detail = there ? 'The login may make and fill tables.' : `Database ${database} will be made.`;
  return { name, outcome: 'pass', detail };
}

function loading(row: Variables): Check {
  const name = 'local_infile';
  if (row.local_infile === 'ON') return { name, outcome: 'pass', detail: 'LOAD DATA LOCAL is allowed.' };
  const detail = `LOAD DATA LOCAL is off: rows go by INSERT, at a fraction of the speed, and none larger than max_allowed_packet (${row.max_allowed_packet} bytes).`;
  return { name, outcome: 'warn', detail, fix: 'SET GLOBAL local_infile = ON, and in the options file of the server.' };
}

function binaryLog(row: Variables): Check {
  const name = 'binlog_format';
  const statement = row.log_bin === 'ON' && row.binlog_format === 'STATEMENT';
  if (!statement) return { name, outcome: 'pass', detail: 'Rows, not statements, go to the binary log.' };
  const detail = 'The binary log holds statements: transactions that read what is committed are refused.';
  return {
    name,
    outcome: 'fail',
    detail,
    fix: 'SET GLOBAL binlog_format = ROW, and in the options file of the server.',
  };
}

function names(row: Variables): Check {
  const name = 'names';
  if (row.lower_case_table_names === '0') return { name, outcome: 'pass', detail: 'Names of tables keep their case.' };
  const detail = `lower_case_table_names is ${row.lower_case_table_names}: names of tables that differ only in case are one.`;
  return { name, outcome: 'warn', detail, fix: 'Give such tables other names in the mapping.' };
}
