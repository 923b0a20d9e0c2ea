/**
 * Every failure Godwit can name. The code is stable: the workflow, the API, the CLI and the docs read this table and
 * guess nothing. `retry` = transient, tried again with back-off; `stop` = permanent, ends in seconds.
 * `docs/errors.md` is generated from it.
 */
export type ErrorCode = keyof typeof codes;

type CodeEntry = {
  readonly kind: 'retry' | 'stop';
  /** HTTP status when the API answers with it. */
  readonly status: number;
  readonly means: string;
  readonly fix: string;
};

const entry = (kind: CodeEntry['kind'], status: number, means: string, fix: string): CodeEntry => ({
  kind,
  status,
  means,
  fix,
});

export const codes = {
  // reaching a server
  CONNECTION_FAILED: entry(
    'retry',
    502,
    'The server did not answer, or ended the connection.',
    'Check that it runs and that host, port and firewall let the worker in. Godwit keeps trying.',
  ),
  UNKNOWN_HOST: entry('stop', 422, 'The host name cannot be resolved.', 'Correct the host in the connection.'),
  LOGIN_REFUSED: entry(
    'stop',
    422,
    'The server refused the user name or password.',
    'Correct the credentials of the connection, then retry the run.',
  ),
  DATABASE_MISSING: entry('stop', 422, 'The database or bucket does not exist.', 'Create it or correct its name.'),
  TLS_FAILED: entry(
    'stop',
    422,
    'The TLS handshake failed.',
    'Give the right certificate authority, or set sslmode to what the server offers.',
  ),
  PRIVILEGE_MISSING: entry(
    'stop',
    422,
    'The login lacks a privilege.',
    'Grant what the message names; `godwit source|target test` lists all that is needed.',
  ),
  SERVER_UNSUITABLE: entry(
    'stop',
    422,
    'The server cannot do what is needed (version, pooling proxy, read-only).',
    'Use a server or an address that can; the message names what is missing.',
  ),
  SERVER_BUSY: entry(
    'retry',
    503,
    'The server has no room just now (connections, locks, throttling).',
    'Godwit waits and tries again.',
  ),
  TARGET_FULL: entry(
    'retry',
    507,
    'The target has no space left.',
    'Free space; Godwit goes on by itself from the last checkpoint.',
  ),
  LOCAL_DISK_FULL: entry('retry', 507, 'The worker has no space left for its spool.', 'Free space in GODWIT_HOME.'),
  // the mapping and its objects
  MAPPING_INVALID: entry(
    'stop',
    422,
    'The mapping has a wrong key, type or value.',
    'Correct the place named in the message.',
  ),
  SETTINGS_INVALID: entry(
    'stop',
    422,
    'A connection, source or target has a wrong setting.',
    'Correct the setting named.',
  ),
  SECRET_UNRESOLVED: entry(
    'stop',
    422,
    'A secret reference (env: or file:) cannot be resolved in the worker.',
    'Set the variable or file there, or allow it with GODWIT_ENV_ALLOW.',
  ),
  SECRET_UNREADABLE: entry(
    'stop',
    500,
    'A sealed value cannot be opened with this key.',
    'Start with the GODWIT_KEY it was sealed with.',
  ),
  NOT_FOUND: entry('stop', 404, 'There is no object of that name.', 'List what there is and correct the name.'),
  ALREADY_EXISTS: entry(
    'stop',
    409,
    'An object of that name exists.',
    'Choose another name or update the existing one.',
  ),
  IN_USE: entry('stop', 409, 'Others use this object.', 'Remove or change the users named first.'),
  CONFLICT: entry('stop', 409, 'The object is not in a state that allows this.', 'See the state in the message.'),
  USAGE: entry('stop', 400, 'The command or request is wrong.', 'See the help or the OpenAPI document.'),
  UNAUTHORIZED: entry('stop', 401, 'The token is missing or wrong.', 'Send `Authorization: Bearer` with GODWIT_TOKEN.'),
  BODY_TOO_LARGE: entry('stop', 413, 'The request body is too large.', 'Send a smaller document.'),
  // planning
  TABLE_MISSING: entry(
    'stop',
    422,
    'The source has no such table.',
    'Correct the name; the message shows the nearest ones.',
  ),
  NO_TABLE_MATCHES: entry(
    'stop',
    422,
    'A wildcard matches no table.',
    'Correct the pattern; `godwit tables SOURCE` lists them.',
  ),
  COLUMN_MISSING: entry('stop', 422, 'A column the mapping names is not there.', 'Correct the column name.'),
  NAME_COLLISION: entry(
    'stop',
    422,
    'Two tables would be written under one target name.',
    'Set `schema` or `table` so that they differ.',
  ),
  NAME_TOO_LONG: entry('stop', 422, "A name is longer than the target's limit.", 'Set a shorter name in the mapping.'),
  SAME_DATABASE: entry(
    'stop',
    422,
    'Source and target table are the same.',
    'Choose another target schema or database.',
  ),
  TYPE_REFUSED: entry(
    'stop',
    422,
    'The target cannot hold a column of this type.',
    'Leave the column out, or say in the mapping how to convert it.',
  ),
  NOT_OWNED: entry(
    'stop',
    409,
    'The target table exists and was not made by this job.',
    'Set `existing: adopt` or `existing: overwrite` for the table, or choose another name.',
  ),
  TARGET_DIFFERS: entry(
    'stop',
    409,
    'The target table exists with other columns.',
    'Change the mapping, drop the table, or set `on_schema_change`.',
  ),
  SWAP_IMPOSSIBLE: entry(
    'stop',
    409,
    'Objects on the old table cannot be carried over to the new one.',
    'Set `swap: delete-insert` for the table or remove the object named.',
  ),
  MODE_REFUSED: entry(
    'stop',
    422,
    'The table cannot be kept in this mode between this source and this target.',
    'Choose the mode the message names, or give the table what it lacks (a key, a bookmark).',
  ),
  SCHEDULE_INVALID: entry(
    'stop',
    422,
    'The schedule cannot be read, or not be said to Temporal.',
    'Correct the expression; `godwit next EXPRESSION` shows its times.',
  ),
  // moving
  SNAPSHOT_LOST: entry(
    'retry',
    503,
    "The source's snapshot is gone.",
    'Nothing to do: keyed tables go on chunk by chunk, others start their staging again.',
  ),
  SOURCE_CHANGED: entry(
    'stop',
    409,
    "The source table's shape or storage changed while it was read.",
    'Retry the run: the table is planned anew.',
  ),
  FIELDS_CHANGED: entry(
    'stop',
    409,
    'A document has a field, or a field a type, that the plan does not know.',
    'Nothing: Godwit looks at every document and starts the table again with the wider plan.',
  ),
  VALUE_REFUSED: entry(
    'stop',
    422,
    'A value does not fit the target column.',
    'Correct it at the source, or say in the mapping what to do (`on_misfit`, `max_quarantined`).',
  ),
  ROW_TOO_LARGE: entry(
    'stop',
    422,
    'A row is larger than can be moved.',
    'Leave the column out or shorten it at the source.',
  ),
  CONSTRAINT_BROKEN: entry(
    'stop',
    422,
    'Rows break a constraint on the target.',
    'Correct the rows at the source or drop the constraint.',
  ),
  BOOKMARK_UNREADABLE: entry(
    'stop',
    422,
    'A bookmark stored as text is no date and time in a standard format.',
    'Correct it at the source, or choose another bookmark.',
  ),
  DELETES_REFUSED: entry(
    'stop',
    409,
    'More rows vanished at the source than `max_deleted` lets be deleted.',
    'Look at the source. If it is right, raise `max_deleted` and start a new run.',
  ),
  STATE_CHANGED: entry(
    'stop',
    409,
    'The target table of an incremental mode is not the one the last run left.',
    'Load it again with `godwit run JOB --table T --full`.',
  ),
  CUT_OFF: entry('stop', 409, 'The cut-off time was reached.', 'Nothing to do: the next run goes on from there.'),
  FENCED: entry('stop', 409, 'A newer attempt took over this chunk; nothing was written.', 'Nothing to do.'),
  BOOKS_UNBALANCED: entry(
    'stop',
    500,
    'Rows read are not rows written plus filtered plus quarantined.',
    'Please report this with `godwit logs RUN`.',
  ),
  // runs
  ALREADY_RUNNING: entry('stop', 409, 'The job is running already.', 'Wait for it, or cancel it first.'),
  BLACKOUT: entry(
    'stop',
    409,
    'A schedule came to its time in a blackout window of the job.',
    'Nothing to do: the next run comes at its time. `godwit run JOB` starts one now.',
  ),
  RUN_FAILED: entry('stop', 500, 'The run ended as failed.', 'See the tables of the run.'),
  CANCELED: entry('stop', 409, 'Somebody canceled it.', 'Start a new run.'),
  GAVE_UP: entry(
    'stop',
    504,
    'A transient failure lasted longer than `give_up_after`.',
    'Mend its cause, then retry the run.',
  ),
  NOTIFICATION_REFUSED: entry(
    'stop',
    502,
    'The receiver of a notification refused it.',
    'Correct the channel; `godwit notify test CHANNEL` tries it. The run itself is not touched.',
  ),
  // the installation
  PORT_IN_USE: entry('stop', 500, 'The port is in use.', 'Stop the other program or set another PORT.'),
  TOKEN_REQUIRED: entry(
    'stop',
    500,
    'The API does not listen beyond loopback without a token.',
    'Set GODWIT_TOKEN or HOST=127.0.0.1.',
  ),
  SERVER_START_FAILED: entry('stop', 500, 'An embedded server did not start.', 'See the message and its log file.'),
  DOWNLOAD_FAILED: entry(
    'stop',
    500,
    'Something needed could not be downloaded.',
    'The message names what was tried and how to set it by hand.',
  ),
  TEMPORAL_UNREACHABLE: entry('retry', 503, 'The Temporal server does not answer.', 'Check TEMPORAL_ADDRESS.'),
  DATABASE_UNREACHABLE: entry('retry', 503, "Godwit's own PostgreSQL does not answer.", 'Check DATABASE_URL.'),
  INTERNAL: entry('retry', 500, 'Something unforeseen.', 'Please report this with `godwit logs RUN`.'),
} as const satisfies Record<string, CodeEntry>;

/** Where it happened. Never a row value, a key value or a secret. */
export type Where = {
  readonly job?: string;
  readonly run?: string;
  readonly target?: string;
  readonly table?: string;
  readonly column?: string;
  readonly chunk?: number;
  readonly constraint?: string;
  /** The server's own code (SQLSTATE, error number), for people. */
  readonly native?: string;
};

export type ErrorOptions = Where & { readonly cause?: unknown };

/** The one error class. Connectors translate driver errors into it once, at their edge. */
export class GodwitError extends Error {
  override readonly name = 'GodwitError';
  readonly code: ErrorCode;
  readonly where: Where;

  constructor(code: ErrorCode, message: string, { cause, ...where }: ErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.where = where;
  }

  get retryable(): boolean {
    return codes[this.code].kind === 'retry';
  }
}

/** Anything thrown, as a GodwitError: itself if it is one, else INTERNAL with the original as cause. */
export const asGodwitError = (error: unknown): GodwitError =>
  error instanceof GodwitError
    ? error
    : new GodwitError('INTERNAL', error instanceof Error ? error.message : String(error), { cause: error });
