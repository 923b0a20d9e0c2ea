/**
 * The rows lane: a COPY per batch, each behind a savepoint. A batch the server refuses for its data (SQLSTATE classes 22
 * and 23) is halved down to the rows that are bad; those are set aside, the others kept, in order.
 */
import { GodwitError } from '../../../errors.ts';
import type { BadRow, Counts, Work, WriteOptions } from '../../contract.ts';
import type { Row } from '../../types.ts';
import { sqlstate } from '../errors.ts';
import type { Session } from '../session.ts';
import { CopyIn } from './copy-in.ts';
import { copyText } from './copy-rows.ts';

/** Rows of one COPY: bounds the memory of its text, whatever the source's batch is. */
const rowsAtOnce = 10_000;

export class RowsWriter {
  readonly #session: Session;
  readonly #work: Work;
  readonly #options: WriteOptions;
  readonly #sql: string;
  readonly #text: ReturnType<typeof copyText>;
  #read = 0;
  #written = 0;
  #bytes = 0;
  #bad: BadRow[] = [];
  #quarantined = 0;

  constructor(session: Session, work: Work, options: WriteOptions, sql: string) {
    this.#session = session;
    this.#work = work;
    this.#options = options;
    this.#sql = sql;
    this.#text = copyText(work.columns);
  }

  get counts(): Counts {
    return {
      read: this.#read,
      written: this.#written,
      filtered: 0,
      quarantined: this.#quarantined,
      bytes: this.#bytes,
    };
  }

  async take(rows: readonly Row[]): Promise<void> {
    for (let from = 0; from < rows.length; from += rowsAtOnce) {
      const to = Math.min(from + rowsAtOnce, rows.length);
      await this.#keep(rows, from, to);
      if (this.#bad.length > 0) await this.#tell();
      this.#read += to - from;
      this.#options.progress?.({ rows: this.#read, bytes: this.#bytes });
    }
  }

  async #keep(rows: readonly Row[], from: number, to: number): Promise<void> {
    const refused = await this.#copy(rows, from, to);
    if (!refused) return;
    if (to - from > 1) {
      const middle = (from + to) >> 1;
      await this.#keep(rows, from, middle);
      await this.#keep(rows, middle, to);
      return;
    }
    const { column } = refused.where;
    const renamed = this.#work.columns.find((one) => one.from === column && column !== undefined);
    this.#bad.push({
      ordinal: this.#read + (from % rowsAtOnce),
      row: rows[from] as Row,
      column: renamed?.name ?? column,
      native: refused.where.native,
      reason: refused.message,
    });
    // The first one at once: most tables allow none, and then the rest need not be searched.
    if (this.#quarantined === 0) await this.#tell();
  }

  async #tell(): Promise<void> {
    const bad = this.#bad;
    this.#bad = [];
    this.#quarantined += bad.length;
    await this.#options.quarantine(bad);
  }

  /** The error when the data is refused; nothing of these rows is in the transaction then. */
  async #copy(rows: readonly Row[], from: number, to: number): Promise<GodwitError | undefined> {
    const text = this.#text(rows, from, to);
    await this.#session.query('SAVEPOINT batch');
    try {
      const copy = new CopyIn(this.#session);
      await copy.start(this.#session, this.#sql);
      await copy.bytes([text]);
      const written = await copy.end();
      if (written !== to - from) {
        throw new GodwitError(
          'BOOKS_UNBALANCED',
          `${to - from} rows were sent and ${written} taken; nothing was kept.`,
        );
      }
      await this.#session.query('RELEASE SAVEPOINT batch');
      this.#written += written;
      this.#bytes += text.length;
      return undefined;
    } catch (error) {
      if (!(error instanceof GodwitError) || !/^(22|23|54)/.test(sqlstate(error) ?? '')) throw error;
      await this.#session.query('ROLLBACK TO SAVEPOINT batch; RELEASE SAVEPOINT batch');
      return error;
    }
  }
}
