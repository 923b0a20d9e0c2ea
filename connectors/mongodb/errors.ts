/**
 * Driver and server errors become GodwitErrors here, once, by class and by the server's error number (its names are those
 * of the manual's list of error codes). A server's message is dropped: most quote commands, and with them keys and values.
 */
import {
  MongoBulkWriteError,
  MongoCompatibilityError,
  MongoError,
  MongoNetworkError,
  MongoOperationTimeoutError,
  MongoParseError,
  MongoServerError,
  MongoServerSelectionError,
} from 'mongodb';
import { type ErrorCode, GodwitError, type Where } from '../../errors.ts';

type Meaning = readonly [code: ErrorCode, said?: string];

/** What an error number means to Godwit, and a sentence where the server's name for it says too little. */
const byNumber: Readonly<Record<number, Meaning>> = {
  6: ['CONNECTION_FAILED'], // HostUnreachable
  7: ['CONNECTION_FAILED'], // HostNotFound: a member the server itself cannot reach
  11: ['LOGIN_REFUSED', 'the user does not exist'],
  13: ['PRIVILEGE_MISSING', 'the login may not do this'],
  18: ['LOGIN_REFUSED', 'user name or password is wrong'],
  20: ['SERVER_UNSUITABLE'], // IllegalOperation
  24: ['SERVER_BUSY'], // LockTimeout
  26: ['TABLE_MISSING', 'the collection does not exist'],
  31: ['PRIVILEGE_MISSING'], // RoleNotFound
  33: ['LOGIN_REFUSED', 'the server asks for another way to log in'],
  43: ['SERVER_BUSY', 'the cursor is gone; the chunk is read again'],
  46: ['SERVER_BUSY'], // LockBusy
  48: ['ALREADY_EXISTS', 'the collection exists'],
  50: ['SERVER_BUSY', 'the time limit of the operation was reached'],
  59: ['SERVER_UNSUITABLE', 'the server does not know the command'],
  63: ['SERVER_BUSY'], // StaleShardVersion
  64: ['SERVER_BUSY', 'the members did not confirm the write in time'],
  73: ['SETTINGS_INVALID', 'the name of the database or collection is not allowed'],
  79: ['SERVER_UNSUITABLE'], // UnknownReplWriteConcern
  89: ['CONNECTION_FAILED'], // NetworkTimeout
  91: ['CONNECTION_FAILED'], // ShutdownInProgress
  100: ['SERVER_UNSUITABLE', 'the replica set has not the members to confirm a write'],
  112: ['SERVER_BUSY', 'another operation wrote the same document'],
  115: ['SERVER_UNSUITABLE', 'the server does not support the command'],
  117: ['SERVER_BUSY'], // ConflictingOperationInProgress
  121: ['CONSTRAINT_BROKEN', "a document breaks the collection's validator"],
  133: ['SERVER_BUSY', 'no member fits the read preference'],
  134: ['SERVER_BUSY'], // ReadConcernMajorityNotAvailableYet
  136: ['SERVER_BUSY', 'the capped collection moved on under the read'],
  146: ['SERVER_BUSY'], // ExceededMemoryLimit
  150: ['SERVER_BUSY'], // StaleEpoch
  166: ['SERVER_UNSUITABLE', 'a view cannot do this'],
  175: ['SOURCE_CHANGED', 'the collection was dropped or renamed under the read'],
  189: ['CONNECTION_FAILED', 'the primary stepped down'],
  225: ['SERVER_BUSY'], // TransactionTooOld
  237: ['SERVER_BUSY', 'the cursor was ended; the chunk is read again'],
  238: ['SERVER_UNSUITABLE', 'the server does not implement this'],
  239: ['SNAPSHOT_LOST'], // SnapshotTooOld
  246: ['SNAPSHOT_LOST'], // SnapshotUnavailable
  251: ['SERVER_BUSY'], // NoSuchTransaction
  257: ['ROW_TOO_LARGE'], // TransactionTooLarge
  262: ['SERVER_BUSY'], // ExceededTimeLimit
  267: ['SERVER_BUSY'], // PreparedTransactionInProgress
  292: ['SERVER_BUSY'], // QueryExceededMemoryLimitNoDiskUseAllowed
  314: ['SERVER_BUSY'], // ObjectIsBusy
  365: ['SERVER_BUSY'], // TemporarilyUnavailable
  391: ['SERVER_BUSY'], // ReauthenticationRequired
  462: ['SERVER_BUSY'], // IngressRequestRateLimitExceeded
  8000: ['LOGIN_REFUSED', 'user name or password is wrong'], // Atlas
  9001: ['CONNECTION_FAILED'], // SocketException
  10058: ['CONNECTION_FAILED', 'the member is not the primary'],
  10107: ['CONNECTION_FAILED', 'the member is not the primary'],
  10334: ['ROW_TOO_LARGE', 'a document is larger than 16 MB'],
  11000: ['CONSTRAINT_BROKEN', 'two documents have the same key'],
  11001: ['CONSTRAINT_BROKEN', 'two documents have the same key'],
  11600: ['CONNECTION_FAILED', 'the server shuts down'],
  11601: ['SERVER_BUSY', 'the operation was interrupted'],
  11602: ['CONNECTION_FAILED', 'the primary changed'],
  12586: ['SERVER_BUSY'], // BackgroundOperationInProgressForDatabase
  12587: ['SERVER_BUSY'], // BackgroundOperationInProgressForNamespace
  13297: ['SETTINGS_INVALID', 'a database of that name in other letter case exists'],
  13388: ['SERVER_BUSY'], // StaleConfig
  13435: ['CONNECTION_FAILED', 'the member is not the primary'],
  13436: ['CONNECTION_FAILED', 'the member is neither primary nor secondary'],
  14031: ['TARGET_FULL', 'the server has no disk space left'],
  17280: ['VALUE_REFUSED', 'a key is too long for its index'],
  17419: ['ROW_TOO_LARGE', 'a document is larger than 16 MB'],
};

/** Any error of the driver or the server as a GodwitError; a GodwitError is passed through. */
export function translate(error: unknown, where: Where = {}): GodwitError {
  if (error instanceof GodwitError) return error;
  if (error instanceof MongoServerSelectionError) return unreachable(error, where);
  if (error instanceof MongoServerError || error instanceof MongoBulkWriteError) return fromServer(error, where);
  if (error instanceof MongoCompatibilityError) {
    return new GodwitError('SERVER_UNSUITABLE', `The server does not suit: ${error.message}`, where);
  }
  if (error instanceof MongoParseError) return new GodwitError('SETTINGS_INVALID', error.message, where);
  if (error instanceof MongoNetworkError || error instanceof MongoOperationTimeoutError || closed(error)) {
    return fromNetwork(error as MongoError, where);
  }
  const errno = systemCode(error);
  if (errno !== undefined) return fromNetwork(error as Error, where);
  return new GodwitError('INTERNAL', error instanceof Error ? error.message : String(error), {
    ...where,
    cause: error,
  });
}

/** The server's error number, before or after translation. */
export const numberOf = (error: unknown): number | undefined => {
  const code = error instanceof GodwitError ? error.where.native : (error as { code?: unknown } | undefined)?.code;
  const number = Number(code);
  return code === undefined || Number.isNaN(number) ? undefined : number;
};

/** A failure to connect says to which server: a reader has several. */
export function atServer(error: unknown, hosts: readonly string[], database: string): unknown {
  const at = hosts.join(',');
  if (!(error instanceof GodwitError) || error.message.includes(at)) return error;
  const message = `${error.message.replace(/\.$/, '')} (${at}, database ${database}).`;
  return new GodwitError(error.code, message, { ...error.where, cause: error.cause });
}

function fromServer(error: MongoServerError | MongoBulkWriteError, where: Where): GodwitError {
  const number = Number(error.code ?? 0);
  const [code, said] = byNumber[number] ?? (refuses(number) ? (['VALUE_REFUSED'] as const) : (['INTERNAL'] as const));
  const name = 'codeName' in error && typeof error.codeName === 'string' ? error.codeName : undefined;
  const what = said ?? name ?? 'the operation failed';
  const at = where.table === undefined ? '' : ` (table ${where.table})`;
  return new GodwitError(code, `MongoDB: ${what}${at} [${number}]`, { ...where, native: String(number) });
}

/** BadValue, FailedToParse, TypeMismatch, Overflow, InvalidLength, field names that are not allowed. */
const refuses = (number: number): boolean => [2, 9, 14, 15, 16, 52, 53, 55, 56, 57].includes(number);

/** No server of the list could be chosen: what the first of them said is the reason. */
function unreachable(error: MongoServerSelectionError, where: Where): GodwitError {
  const servers = [...(error.reason?.servers?.values() ?? [])];
  const said = servers.map((server) => server.error).find((one) => one !== null && one !== undefined);
  if (said instanceof MongoServerError || said instanceof MongoCompatibilityError) return translate(said, where);
  if (error.reason?.compatible === false) {
    return new GodwitError('SERVER_UNSUITABLE', `The server does not suit: ${error.reason.compatibilityError}`, where);
  }
  if (said) return fromNetwork(said, where);
  // Servers answer, but none is what was asked for: no primary just now, or no replica set of that name.
  return new GodwitError('CONNECTION_FAILED', 'No member of the replica set fits (primary, name, read preference).', {
    ...where,
  });
}

const byErrno: Readonly<Record<string, ErrorCode>> = { ENOTFOUND: 'UNKNOWN_HOST', EAI_NONAME: 'UNKNOWN_HOST' };

function fromNetwork(error: Error, where: Where): GodwitError {
  const errno = systemCode(error);
  const native = errno === undefined ? where : { ...where, native: errno };
  if (errno !== undefined && isTls(errno)) {
    return new GodwitError('TLS_FAILED', `TLS to the server failed: ${errno}`, native);
  }
  const code = (errno !== undefined && byErrno[errno]) || 'CONNECTION_FAILED';
  if (code === 'UNKNOWN_HOST') return new GodwitError(code, 'The host name cannot be resolved.', native);
  return new GodwitError(code, `The connection to MongoDB failed: ${errno ?? error.name}`, native);
}

/** The driver wraps what the socket or the resolver said, sometimes twice. */
function systemCode(error: unknown): string | undefined {
  for (let one = error; one instanceof Error; one = one.cause) {
    const { code } = one as { code?: unknown };
    if (typeof code === 'string' && /^[A-Z][A-Z_0-9]+$/.test(code)) return code;
  }
  return undefined;
}

const isTls = (code: string): boolean =>
  /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|EPROTO|HOSTNAME_MISMATCH)/.test(code);

/** Used after its client was closed, or its pool cleared: the connection is what failed. */
const closed = (error: unknown): boolean =>
  error instanceof MongoError &&
  /^Mongo(NotConnected|TopologyClosed|ClientClosed|ServerClosed|ExpiredSession|PoolCleared|PoolClosed|WaitQueueTimeout)/.test(
    error.name,
  );
