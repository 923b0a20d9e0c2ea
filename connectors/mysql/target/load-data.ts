/**
 * LOAD DATA LOCAL. The manual: with LOCAL the server cannot stop the client in the middle, so it goes on after errors in
 * the data, also in strict mode: it mends values, leaves out rows with a key that is there, and counts warnings. So a load
 * counts only when every row arrived and there was no warning at all; else the caller takes it back as a whole.
 *
 * The protocol lets a server ask for any file in answer to any statement. Here it gets the one stream of the statement
 * that names it, once; for any other name, or a second time, it gets nothing and the connection ends.
 */
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { GodwitError } from '../../../errors.ts';
import type { PlanColumn, TableName } from '../../contract.ts';
import { serverError } from '../errors.ts';
import { askedForFile, type Outcome, type Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { takenBy } from './columns.ts';

/** The columns of a stream, in its order. */
export type Into = {
  readonly table: TableName;
  readonly columns: readonly PlanColumn[];
  /** Of rows with one key the last one stays. */
  readonly replacing?: boolean;
};

export const loadSql = ({ table, columns, replacing }: Into, file: string): string => {
  const sets: string[] = [];
  const fields = columns.map((column, i) => {
    const { name } = column;
    const taken = takenBy(column, 'mended');
    if (!taken) return ident(name);
    const variable = `@godwit_${i}`;
    sets.push(`${ident(name)} = ${taken(variable)}`);
    return variable;
  });
  const set = sets.length > 0 ? ` SET ${sets.join(', ')}` : '';
  return `LOAD DATA LOCAL INFILE '${file}'${replacing ? ' REPLACE' : ''} INTO TABLE ${tableIdent(table)} CHARACTER SET utf8mb4
    FIELDS TERMINATED BY '\\t' ENCLOSED BY '' ESCAPED BY '\\\\' LINES STARTING BY '' TERMINATED BY '\\n'
    (${fields.join(', ')})${set}`;
};

/** One statement and its stream, which has gone through the Mender: `bytes` as often as wanted, then `end`. */
export class Load {
  readonly #session: Session;
  readonly #stream: Readable;
  readonly #outcome: Promise<Outcome>;
  #wanted = Promise.withResolvers<void>();
  #asked = Promise.withResolvers<boolean>();
  #given = false;
  #rogue: GodwitError | undefined;

  constructor(session: Session, into: Into) {
    this.#session = session;
    this.#stream = new Readable({ highWaterMark: 1024 * 1024, read: () => this.#wanted.resolve() });
    const file = `godwit ${randomUUID()}`;
    const infileStreamFactory = (path: string): Readable => this.#give(path === file);
    this.#outcome = session.run(loadSql(into, file), { infileStreamFactory }).catch((error: unknown) => {
      throw this.#rogue ?? error;
    });
    this.#outcome.then(
      () => this.#asked.resolve(true),
      (error: unknown) => (loadingOff(error) ? this.#asked.resolve(false) : this.#asked.reject(error)),
    );
    this.#asked.promise.catch(() => {});
  }

  #give(ours: boolean): Readable {
    if (ours && !this.#given) {
      this.#given = true;
      this.#asked.resolve(true);
      return this.#stream;
    }
    this.#rogue = askedForFile();
    this.#session.destroy();
    return new Readable({ read() {} });
  }

  /** Resolves to true when the server has asked for the stream, to false when it allows no LOCAL: then nothing happened. */
  started(): Promise<boolean> {
    return this.#asked.promise;
  }

  /** Resolves when more may come. Rejects with what the server said in between. */
  async bytes(blocks: readonly Buffer[]): Promise<void> {
    for (const block of blocks) {
      this.#wanted = Promise.withResolvers<void>();
      if (!this.#stream.push(block)) await this.or(this.#wanted.promise);
    }
  }

  /** The other promise, unless the statement ends before it. */
  async or<T>(other: Promise<T>): Promise<T> {
    const ended = this.#outcome.then(() => {
      throw new GodwitError('CONNECTION_FAILED', 'The server ended LOAD DATA before its stream.');
    });
    other.catch(() => {});
    return await Promise.race([other, ended]);
  }

  async end(): Promise<Outcome> {
    this.#stream.push(null);
    return await this.#outcome;
  }
}

/** Of no value: a statement-based binary log, words that a later version will not know. */
const harmless = new Set([1287, 1592, 1681, 3719, 3778]);

/**
 * What the server did to the data of the statement before, which must have taken `rows`; undefined when nothing but taken it.
 * A row that took another's place counts as two.
 */
export async function objection(
  session: Session,
  { affected, warnings, info }: Outcome,
  rows: number,
  replacing = false,
): Promise<GodwitError | undefined> {
  if (warnings > 0) {
    const list = await session.query<{ Code: number; Message: string }>('SHOW WARNINGS LIMIT 50');
    const first = list.find((warning) => !harmless.has(Number(warning.Code)));
    if (first || list.length < Math.min(warnings, 50)) {
      const error = serverError({ number: Number(first?.Code ?? 1265), message: first?.Message ?? '', state: '22000' });
      const ours = ['VALUE_REFUSED', 'CONSTRAINT_BROKEN', 'ROW_TOO_LARGE'].includes(error.code);
      return ours ? error : new GodwitError('VALUE_REFUSED', error.message, { ...error.where, cause: error.cause });
    }
  }
  if (affected === rows) return undefined;
  const records = Number(/Records: (\d+)/.exec(info)?.[1] ?? rows);
  if (replacing && records === rows && affected > rows && affected <= rows * 2) return undefined;
  return new GodwitError('BOOKS_UNBALANCED', `${rows} rows were sent and ${affected} taken; nothing was kept.`);
}

/** MySQL and MariaDB, with `local_infile` off. */
const loadingOff = (error: unknown): boolean =>
  error instanceof GodwitError && ['1148', '3948', '4166'].includes(error.where.native ?? '');
