/**
 * The rows lane: a statement per batch, each behind a savepoint. A batch the server objects to for its data is halved down
 * to the rows that are bad; those are set aside, the others kept, in order. LOAD DATA where the server allows it, else INSERT.
 */
import { GodwitError } from '../../../errors.ts';
import type { BadRow, Counts, Work, WriteOptions } from '../../contract.ts';
import type { Row } from '../../types.ts';
import type { Session } from '../session.ts';
import { Inserter } from './insert.ts';
import { type Into, Load, objection } from './load-data.ts';
import { Mender } from './mend.ts';
import { type Field, fieldsOf, lineOf } from './texts.ts';

/** Of one statement: bounds the memory of its text, whatever the source's batch is. */
const rowsAtOnce = 10_000;
const charsAtOnce = 8 * 1024 * 1024;

const dataCodes = ['VALUE_REFUSED', 'CONSTRAINT_BROKEN', 'ROW_TOO_LARGE'];

export class RowsWriter {
  readonly #session: Session;
  readonly #into: Into;
  readonly #options: WriteOptions;
  readonly #fields: (row: Row) => Field[];
  #inserter: Inserter | undefined;
  #read = 0;
  #written = 0;
  #bytes = 0;
  #bad: BadRow[] = [];
  #quarantined = 0;

  constructor(session: Session, work: Work, into: Into, options: WriteOptions) {
    this.#session = session;
    this.#into = into;
    this.#options = options;
    this.#fields = fieldsOf(work.columns);
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
    for (let from = 0; from < rows.length; ) {
      const lines: string[] = [];
      const fields: Field[][] = [];
      let chars = 0;
      for (let r = from; r < rows.length && lines.length < rowsAtOnce && chars < charsAtOnce; r++) {
        const row = this.#fields(rows[r] as Row);
        const line = lineOf(row);
        fields.push(row);
        lines.push(line);
        chars += line.length;
      }
      await this.#keep({ rows: rows.slice(from, from + lines.length), fields, lines }, 0, lines.length);
      if (this.#bad.length > 0) await this.#tell();
      this.#read += lines.length;
      from += lines.length;
      this.#options.progress?.({ rows: this.#read, bytes: this.#bytes });
    }
  }

  async #keep(batch: Texts, from: number, to: number): Promise<void> {
    const refused = await this.#put(batch, from, to);
    if (!refused) return;
    if (to - from > 1) {
      const middle = (from + to) >> 1;
      await this.#keep(batch, from, middle);
      await this.#keep(batch, middle, to);
      return;
    }
    this.#bad.push({
      ordinal: this.#read + from,
      row: batch.rows[from] as Row,
      column: refused.where.column,
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
  async #put(batch: Texts, from: number, to: number): Promise<GodwitError | undefined> {
    await this.#session.run('SAVEPOINT batch');
    let refused: GodwitError | undefined;
    try {
      refused = await this.#send(batch, from, to);
    } catch (error) {
      if (!(error instanceof GodwitError) || !dataCodes.includes(error.code)) throw error;
      refused = error;
    }
    if (refused && !dataCodes.includes(refused.code)) throw refused;
    await this.#session.run(refused ? 'ROLLBACK TO SAVEPOINT batch' : 'RELEASE SAVEPOINT batch');
    if (!refused) this.#written += to - from;
    return refused;
  }

  async #send(batch: Texts, from: number, to: number): Promise<GodwitError | undefined> {
    if (!this.#inserter) {
      const load = new Load(this.#session, this.#into);
      if (await load.started()) {
        const text = Buffer.from(batch.lines.slice(from, to).join(''));
        const mender = new Mender(this.#into.columns);
        await load.bytes([...mender.take(text), ...mender.end()]);
        const refused = await objection(this.#session, await load.end(), to - from, this.#into.replacing);
        if (!refused) this.#bytes += text.length;
        return refused;
      }
      this.#inserter = new Inserter(this.#session, this.#into);
    }
    const { refused, bytes } = await this.#inserter.put(batch.fields.slice(from, to));
    if (!refused) this.#bytes += bytes;
    return refused;
  }
}

type Texts = {
  readonly rows: readonly Row[];
  readonly fields: readonly (readonly Field[])[];
  readonly lines: readonly string[];
};
