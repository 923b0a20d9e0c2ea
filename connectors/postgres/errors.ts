/**
 * Driver and server errors become GodwitErrors here, once, by SQLSTATE or error number. What may quote a value (`detail`,
 * `where`, `internalQuery`, and the message itself in the classes 22 and 23) is dropped; names and codes stay.
 */
import pg from 'pg';
import { type ErrorCode, GodwitError, type Where } from '../../errors.ts';

/** What an SQLSTATE means to Godwit: the whole code first, then its class. */
const bySqlstate: Readonly<Record<string, ErrorCode>> = {
  '08': 'CONNECTION_FAILED',
  '57P01': 'CONNECTION_FAILED', // admin_shutdown, also pg_terminate_backend
  '57P02': 'CONNECTION_FAILED', // crash_shutdown
  '57P03': 'CONNECTION_FAILED', // cannot_connect_now: starting up
  '57P05': 'CONNECTION_FAILED', // idle_session_timeout
  '25P03': 'CONNECTION_FAILED', // idle_in_transaction_session_timeout
  '28': 'LOGIN_REFUSED',
  '3D000': 'DATABASE_MISSING',
  '42501': 'PRIVILEGE_MISSING',
  '42P01': 'TABLE_MISSING',
  '3F000': 'TABLE_MISSING',
  '42703': 'COLUMN_MISSING',
  '40': 'SERVER_BUSY', // serialization, deadlock
  '53': 'SERVER_BUSY', // connections, memory
  '53100': 'TARGET_FULL',
  '55': 'SERVER_BUSY', // lock_not_available, object_in_use
  '57': 'SERVER_BUSY', // query_canceled by a timeout
  '58': 'SERVER_BUSY', // the server's own input or output
  '25P04': 'SERVER_BUSY', // transaction_timeout
  '72000': 'SNAPSHOT_LOST', // snapshot too old (until 16)
  '22': 'VALUE_REFUSED',
  '23': 'CONSTRAINT_BROKEN',
  '54': 'ROW_TOO_LARGE',
  '0A': 'SERVER_UNSUITABLE',
  '25006': 'SERVER_UNSUITABLE', // read-only server
  '42P06': 'ALREADY_EXISTS',
  '42P07': 'ALREADY_EXISTS',
  '42710': 'ALREADY_EXISTS',
  '2BP01': 'SWAP_IMPOSSIBLE', // dependent_objects_still_exist
};

const byErrno: Readonly<Record<string, ErrorCode>> = {
  ENOTFOUND: 'UNKNOWN_HOST',
  EAI_NONAME: 'UNKNOWN_HOST',
  EAI_AGAIN: 'CONNECTION_FAILED',
};

/** Of the classes that quote values in the message itself: what to say instead. */
const said: Readonly<Record<string, string>> = {
  '22001': 'a text is too long for its column',
  '22003': 'a number is out of range',
  '22007': 'a date or time is not understood',
  '22008': 'a date or time is out of range',
  '22021': 'a text holds bytes that are not of the encoding (a NUL byte, broken UTF-8)',
  '22P02': 'a value is not understood by the type of its column',
  '22P03': 'a binary value is not understood by the type of its column',
  '22P04': 'the COPY data is malformed',
  '22P05': 'a character does not exist in the encoding',
  '23502': 'a value is NULL where NULL is not allowed',
  '23503': 'a row refers to a row that does not exist',
  '23505': 'two rows have the same key',
  '23514': 'a row breaks a check',
  '23P01': 'two rows exclude each other',
  '54000': 'a row or an index entry is too large for the server',
};

/** Any error of the driver or the server as a GodwitError; a GodwitError is passed through. */
export function translate(error: unknown, where: Where = {}): GodwitError {
  if (error instanceof GodwitError) return error;
  if (isServerError(error)) return fromServer(error, where);
  const { code, message } = error as { code?: unknown; message?: unknown };
  const text = typeof message === 'string' && message !== '' ? message : String(code ?? error);
  const number = typeof code === 'string' ? code : undefined;
  if (number && isTls(number)) {
    return new GodwitError('TLS_FAILED', `TLS to the server failed: ${text}`, { ...where, native: number });
  }
  if (text.startsWith('SASL') || text.includes('client password must be')) {
    return new GodwitError('LOGIN_REFUSED', 'The server asks for a password, and none that works was given.', where);
  }
  if (text === noTls) return new GodwitError('TLS_FAILED', 'The server does not offer TLS.', where);
  const errno = number !== undefined && /^E[A-Z_]+$/.test(number) && !number.startsWith('ERR_');
  if (errno || driverEnded.has(text)) {
    const kind = (number && byErrno[number]) || 'CONNECTION_FAILED';
    const { hostname } = error as { hostname?: unknown };
    if (kind === 'UNKNOWN_HOST' && typeof hostname === 'string') {
      return new GodwitError(kind, `The host name ${hostname} cannot be resolved.`, { ...where, native: number });
    }
    return new GodwitError(kind, `The connection to PostgreSQL failed: ${text}`, { ...where, native: number });
  }
  return new GodwitError('INTERNAL', text, { ...where, cause: error });
}

/** A failure to connect says to which server: a reader has several. */
export function atServer(
  error: unknown,
  { host, port, database }: { host: string; port: number; database: string },
): unknown {
  if (!(error instanceof GodwitError) || error.code === 'UNKNOWN_HOST' || error.message.includes(host)) return error;
  const message = `${error.message.replace(/\.$/, '')} (${host}:${port}, database ${database}).`;
  return new GodwitError(error.code, message, { ...error.where, cause: error.cause });
}

/** The SQLSTATE of a server error, before or after translation. */
export const sqlstate = (error: unknown): string | undefined =>
  error instanceof GodwitError ? error.where.native : isServerError(error) ? error.code : undefined;

export const isServerError = (error: unknown): error is pg.DatabaseError =>
  error instanceof pg.DatabaseError && typeof error.code === 'string';

function fromServer(error: pg.DatabaseError, where: Where): GodwitError {
  const state = error.code ?? 'XX000';
  const kind = bySqlstate[state] ?? bySqlstate[state.slice(0, 2)] ?? 'INTERNAL';
  const table = where.table ?? (error.table && [error.schema, error.table].filter(Boolean).join('.'));
  const place = { ...where, table, column: where.column ?? error.column, constraint: error.constraint, native: state };
  const quotes = /^(22|23|54|P0)/.test(state);
  const what = quotes ? (said[state] ?? said[`${state.slice(0, 2)}000`] ?? 'the value is refused') : error.message;
  const at = [
    table && `table ${table}`,
    place.column && `column ${place.column}`,
    place.constraint && `constraint ${place.constraint}`,
  ].filter(Boolean);
  return new GodwitError(kind, `PostgreSQL: ${what}${at.length > 0 ? ` (${at.join(', ')})` : ''} [${state}]`, place);
}

/** The driver's own sentences (constants of `pg`, not the server's translated ones): it gives them no code. */
const noTls = 'The server does not support SSL connections';
const driverEnded = new Set([
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Connection terminated due to connection timeout',
  'timeout expired',
  'Client was closed and is not queryable',
  'Client has encountered a connection error and is not queryable',
  'There was an error establishing an SSL connection',
]);

const isTls = (code: string): boolean =>
  /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|EPROTO|HOSTNAME_MISMATCH)/.test(code);
