/**
 * Driver and server errors become GodwitErrors here, once, by error number. MySQL's messages quote values, keys and pieces
 * of statements, so where a number says that a value is at fault its own sentence stands for the message.
 */
import { type ErrorCode, GodwitError, type Where } from '../../errors.ts';

/** What an error number means to Godwit. The same in MySQL and MariaDB unless said otherwise. */
const byNumber: Readonly<Record<number, ErrorCode>> = {
  // Reaching the server and logging in.
  1040: 'SERVER_BUSY', // too many connections
  1203: 'SERVER_BUSY', // max_user_connections
  1226: 'SERVER_BUSY', // a resource limit of the user
  1042: 'CONNECTION_FAILED', // bad host
  1043: 'CONNECTION_FAILED', // bad handshake
  1047: 'CONNECTION_FAILED', // unknown command: a Galera node that is not ready
  1053: 'CONNECTION_FAILED', // the server shuts down
  1077: 'CONNECTION_FAILED',
  1079: 'CONNECTION_FAILED',
  1080: 'CONNECTION_FAILED',
  1152: 'CONNECTION_FAILED', // aborted
  1158: 'CONNECTION_FAILED', // 1158-1161: reading or writing packets
  1159: 'CONNECTION_FAILED',
  1160: 'CONNECTION_FAILED',
  1161: 'CONNECTION_FAILED',
  1184: 'CONNECTION_FAILED',
  1927: 'CONNECTION_FAILED', // MariaDB: connection was killed
  4031: 'CONNECTION_FAILED', // MySQL: disconnected for inactivity
  3169: 'CONNECTION_FAILED', // MySQL: session was killed
  1045: 'LOGIN_REFUSED',
  1129: 'LOGIN_REFUSED', // host blocked after many errors
  1130: 'LOGIN_REFUSED', // host not allowed
  1251: 'LOGIN_REFUSED', // client does not support the authentication
  1275: 'LOGIN_REFUSED',
  1524: 'LOGIN_REFUSED', // plugin not loaded
  1698: 'LOGIN_REFUSED',
  1820: 'LOGIN_REFUSED', // password must be changed first
  1862: 'LOGIN_REFUSED', // password expired
  3118: 'LOGIN_REFUSED', // account locked
  3955: 'LOGIN_REFUSED', // blocked after failed logins
  4151: 'LOGIN_REFUSED', // MariaDB: account locked
  3159: 'TLS_FAILED', // the server wants TLS
  1049: 'DATABASE_MISSING',
  1044: 'PRIVILEGE_MISSING', // to the database
  1142: 'PRIVILEGE_MISSING', // to the table
  1143: 'PRIVILEGE_MISSING', // to the column
  1227: 'PRIVILEGE_MISSING', // SUPER and its successors
  1370: 'PRIVILEGE_MISSING',
  1419: 'PRIVILEGE_MISSING',
  1356: 'PRIVILEGE_MISSING', // a view over what is not there or not allowed
  1290: 'SERVER_UNSUITABLE', // --read-only and the like
  1836: 'SERVER_UNSUITABLE', // read-only mode
  1792: 'SERVER_UNSUITABLE', // read-only transaction
  1148: 'SERVER_UNSUITABLE', // LOCAL INFILE is off (5.7, MariaDB)
  3948: 'SERVER_UNSUITABLE', // LOCAL INFILE is off (8)
  4166: 'SERVER_UNSUITABLE', // MariaDB 10.5 and later: LOCAL INFILE is off
  1286: 'SERVER_UNSUITABLE', // unknown engine
  1273: 'SERVER_UNSUITABLE', // unknown collation
  1115: 'SERVER_UNSUITABLE', // unknown character set
  // Objects.
  1146: 'TABLE_MISSING',
  1051: 'TABLE_MISSING',
  1932: 'TABLE_MISSING', // the table is not in the engine
  1054: 'COLUMN_MISSING',
  1007: 'ALREADY_EXISTS', // database
  1050: 'ALREADY_EXISTS', // table
  1060: 'ALREADY_EXISTS', // column
  1061: 'ALREADY_EXISTS', // key name
  3822: 'ALREADY_EXISTS', // check name
  1412: 'SOURCE_CHANGED', // table definition has changed: an old read view over a rewritten table
  // Waiting and giving way.
  1205: 'SERVER_BUSY', // lock wait timeout
  1213: 'SERVER_BUSY', // deadlock
  1020: 'SERVER_BUSY', // MariaDB: record has changed since last read
  1317: 'SERVER_BUSY', // query was killed
  1028: 'SERVER_BUSY',
  1037: 'SERVER_BUSY', // out of memory
  1038: 'SERVER_BUSY', // out of sort memory
  1041: 'SERVER_BUSY',
  1135: 'SERVER_BUSY', // no thread
  1206: 'SERVER_BUSY', // lock table size
  1637: 'SERVER_BUSY',
  1614: 'SERVER_BUSY',
  1969: 'SERVER_BUSY', // MariaDB: max_statement_time
  3024: 'SERVER_BUSY', // max_execution_time
  3058: 'SERVER_BUSY',
  3572: 'SERVER_BUSY', // NOWAIT
  3101: 'SERVER_BUSY', // group replication rolled it back
  1023: 'SERVER_BUSY',
  1030: 'SERVER_BUSY', // from the engine; a full disk is told apart below
  1021: 'TARGET_FULL',
  1114: 'TARGET_FULL', // the table is full
  // Sizes.
  1118: 'ROW_TOO_LARGE', // row size too large
  1153: 'ROW_TOO_LARGE', // packet larger than max_allowed_packet
  1162: 'ROW_TOO_LARGE',
  1301: 'ROW_TOO_LARGE', // a function's result larger than max_allowed_packet
  1071: 'ROW_TOO_LARGE', // key too long
  1534: 'ROW_TOO_LARGE',
  1105: 'INTERNAL',
  // Values.
  1261: 'VALUE_REFUSED', // a row of LOAD DATA has too few fields
  1262: 'VALUE_REFUSED', // or too many
  1263: 'VALUE_REFUSED',
  1264: 'VALUE_REFUSED',
  1265: 'VALUE_REFUSED',
  1292: 'VALUE_REFUSED',
  1300: 'VALUE_REFUSED',
  1366: 'VALUE_REFUSED',
  1367: 'VALUE_REFUSED',
  1406: 'VALUE_REFUSED',
  1411: 'VALUE_REFUSED',
  1416: 'VALUE_REFUSED',
  1425: 'VALUE_REFUSED',
  1426: 'VALUE_REFUSED',
  1439: 'VALUE_REFUSED',
  1441: 'VALUE_REFUSED',
  1525: 'VALUE_REFUSED',
  1690: 'VALUE_REFUSED',
  3037: 'VALUE_REFUSED',
  3140: 'VALUE_REFUSED',
  3141: 'VALUE_REFUSED',
  3144: 'VALUE_REFUSED',
  3146: 'VALUE_REFUSED',
  3156: 'VALUE_REFUSED',
  3157: 'VALUE_REFUSED',
  3617: 'VALUE_REFUSED',
  3643: 'VALUE_REFUSED',
  4038: 'VALUE_REFUSED', // MariaDB: JSON syntax
  4078: 'VALUE_REFUSED', // MariaDB: cannot cast
  // Constraints.
  1022: 'CONSTRAINT_BROKEN',
  1048: 'CONSTRAINT_BROKEN',
  1062: 'CONSTRAINT_BROKEN',
  1169: 'CONSTRAINT_BROKEN',
  1216: 'CONSTRAINT_BROKEN',
  1217: 'CONSTRAINT_BROKEN',
  1364: 'CONSTRAINT_BROKEN',
  1451: 'CONSTRAINT_BROKEN',
  1452: 'CONSTRAINT_BROKEN',
  1526: 'CONSTRAINT_BROKEN', // no partition for the value
  1557: 'CONSTRAINT_BROKEN',
  1586: 'CONSTRAINT_BROKEN',
  1748: 'CONSTRAINT_BROKEN',
  1761: 'CONSTRAINT_BROKEN',
  1762: 'CONSTRAINT_BROKEN',
  1859: 'CONSTRAINT_BROKEN',
  3819: 'CONSTRAINT_BROKEN', // a CHECK
  4025: 'CONSTRAINT_BROKEN', // MariaDB: a CHECK
};

/** Of numbers not listed: what the class of their SQLSTATE means. */
const byClass: Readonly<Record<string, ErrorCode>> = {
  '08': 'CONNECTION_FAILED',
  '22': 'VALUE_REFUSED',
  '23': 'CONSTRAINT_BROKEN',
  '28': 'LOGIN_REFUSED',
  '40': 'SERVER_BUSY',
};

/** Of the numbers whose messages quote values: what to say instead. */
const said: Readonly<Record<number, string>> = {
  1022: 'two rows have the same key',
  1048: 'a value is NULL where NULL is not allowed',
  1062: 'two rows have the same key',
  1169: 'two rows have the same key',
  1364: 'a column without a default was given no value',
  1216: 'a row refers to a row that does not exist',
  1217: 'a row is referred to by others',
  1451: 'a row is referred to by others',
  1452: 'a row refers to a row that does not exist',
  1526: 'no partition takes a row',
  1557: 'two rows have the same key',
  1586: 'two rows have the same key',
  1859: 'two rows have the same key',
  3819: 'a row breaks a check',
  4025: 'a row breaks a check',
  1261: 'a row has too few fields',
  1262: 'a row has too many fields',
  1263: 'a value is NULL where NULL is not allowed',
  1264: 'a number or date is out of range',
  1265: 'a value was cut to fit its column',
  1292: 'a date, time or number is not understood',
  1300: 'a text holds bytes that are not of the character set',
  1366: 'a value is not understood by the type of its column',
  1406: 'a value is too long for its column',
  1411: 'a value is not understood by a function',
  1416: 'a value is no geometry',
  1690: 'a number is out of range',
  3140: 'a text is no JSON',
  3141: 'a text is no JSON',
  3144: 'a text is no JSON',
  4038: 'a text is no JSON',
};

/** Of codes that are the driver's or the system's, not the server's. */
const byErrno: Readonly<Record<string, ErrorCode>> = {
  ENOTFOUND: 'UNKNOWN_HOST',
  EAI_NONAME: 'UNKNOWN_HOST',
  EAI_AGAIN: 'CONNECTION_FAILED',
  HANDSHAKE_NO_SSL_SUPPORT: 'TLS_FAILED',
  HANDSHAKE_SSL_ERROR: 'TLS_FAILED',
  AUTH_SWITCH_PLUGIN_ERROR: 'LOGIN_REFUSED',
};

/** Any error of the driver or the server as a GodwitError; a GodwitError is passed through. */
export function translate(error: unknown, where: Where = {}): GodwitError {
  if (error instanceof GodwitError) return error;
  const { code, errno, message, sqlMessage, sqlState } = (error ?? {}) as Partial<DriverError>;
  if (typeof errno === 'number' && errno >= 1000 && typeof sqlMessage === 'string') {
    return serverError({ number: errno, message: sqlMessage, state: String(sqlState ?? '') }, where);
  }
  const text = typeof message === 'string' && message !== '' ? message : String(code ?? error);
  const native = typeof code === 'string' ? code : undefined;
  if (native && isTls(native)) {
    return new GodwitError('TLS_FAILED', `TLS to the server failed: ${text}`, { ...where, native });
  }
  const system = native !== undefined && /^E[A-Z_]+$/.test(native) && !native.startsWith('ERR_');
  if (native && (system || native.startsWith('PROTOCOL_') || native in byErrno)) {
    const kind = byErrno[native] ?? 'CONNECTION_FAILED';
    const { hostname } = error as { hostname?: unknown };
    if (kind === 'UNKNOWN_HOST' && typeof hostname === 'string') {
      return new GodwitError(kind, `The host name ${hostname} cannot be resolved.`, { ...where, native });
    }
    if (native === 'HANDSHAKE_NO_SSL_SUPPORT') return new GodwitError(kind, 'The server does not offer TLS.', where);
    return new GodwitError(kind, `The connection to MySQL failed: ${text}`, { ...where, native });
  }
  if (driverEnded.test(text))
    return new GodwitError('CONNECTION_FAILED', `The connection to MySQL failed: ${text}`, where);
  if (/authentication plugin|server public key|cleartext/i.test(text)) {
    return new GodwitError('LOGIN_REFUSED', `The login to MySQL failed: ${text}`, where);
  }
  return new GodwitError('INTERNAL', text, { ...where, cause: error });
}

export type ServerError = { readonly number: number; readonly message: string; readonly state: string };

/** An error packet of the server, by its number. The message is used only where it quotes no value. */
export function serverError({ number, message, state }: ServerError, where: Where = {}): GodwitError {
  const place = { ...where, native: String(number) };
  // An engine's own error: 28 is ENOSPC, 135 and 136 a full table.
  const full = number === 1030 && /\b(28|135|136)\b/.test(message);
  const code = full || filled(message) ? 'TARGET_FULL' : (byNumber[number] ?? byClass[state.slice(0, 2)] ?? 'INTERNAL');
  const quotes = code === 'VALUE_REFUSED' || code === 'CONSTRAINT_BROKEN' || number === 1064;
  const { column = columnIn(number, message), constraint = constraintIn(number, message) } = where;
  const what =
    said[number] ?? (number === 1064 ? 'a statement is not understood' : quotes ? 'a value is refused' : message);
  const at = [
    where.table && `table ${where.table}`,
    column && `column ${column}`,
    constraint && `constraint ${constraint}`,
  ].filter(Boolean);
  return new GodwitError(code, `MySQL: ${what}${at.length > 0 ? ` (${at.join(', ')})` : ''} [${number}]`, {
    ...place,
    column,
    constraint,
  });
}

const filled = (message: string): boolean => /\(errno: 28\b|No space left on device|Disk quota exceeded/i.test(message);

/** The server names the column in quotes; a value may stand before it, so only the known places are read. */
function columnIn(number: number, message: string): string | undefined {
  switch (number) {
    case 1048:
    case 1364:
      return /^(?:Column|Field) '([^']{1,64})'/.exec(message)?.[1];
    case 1263:
      return /NOT NULL column '([^']{1,64})' at row \d+$/.exec(message)?.[1];
    case 1264:
    case 1265:
    case 1292:
    case 1366:
    case 1406:
      return /for column (?:[`'][^`']{1,64}[`']\.){0,2}[`']([^`']{1,64})[`'] at row \d+$/.exec(message)?.[1];
    default:
      return undefined;
  }
}

const constraintIn = (number: number, message: string): string | undefined =>
  number === 1062
    ? /for key '([^']{1,129})'$/.exec(message)?.[1]
    : number === 1451 || number === 1452
      ? /CONSTRAINT [`"]([^`"]{1,64})[`"]/.exec(message)?.[1]
      : number === 3819
        ? /constraint '([^']{1,64})' is violated/.exec(message)?.[1]
        : number === 4025
          ? /CONSTRAINT `([^`]{1,64})` failed/.exec(message)?.[1]
          : undefined;

/** A failure to connect says to which server: a reader has several. */
export function atServer(
  error: unknown,
  { host, port, database }: { host: string; port: number; database: string },
): unknown {
  if (!(error instanceof GodwitError) || error.code === 'UNKNOWN_HOST' || error.message.includes(host)) return error;
  const place = host.startsWith('/') ? host : `${host}:${port}`;
  const message = `${error.message.replace(/\.$/, '')} (${place}, database ${database}).`;
  return new GodwitError(error.code, message, { ...error.where, cause: error.cause });
}

/** The server's error number, before or after translation. */
export function numberOf(error: unknown): number | undefined {
  if (error instanceof GodwitError) {
    const number = Number(error.where.native);
    return Number.isInteger(number) ? number : undefined;
  }
  const { errno, sqlMessage } = (error ?? {}) as Partial<DriverError>;
  return typeof errno === 'number' && typeof sqlMessage === 'string' ? errno : undefined;
}

type DriverError = { code: unknown; errno: unknown; message: unknown; sqlMessage: unknown; sqlState: unknown };

/** Sentences of the driver that come without a code. */
const driverEnded =
  /^(Connection lost|Can't add new command when connection is in closed state|Can't write in closed state|Connection terminated)/;

const isTls = (code: string): boolean =>
  /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|EPROTO|HOSTNAME_MISMATCH)/.test(code);
