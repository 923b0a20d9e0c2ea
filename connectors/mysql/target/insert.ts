/** Rows by INSERT, many in a statement, for a server that does not allow LOAD DATA LOCAL. In strict mode, warnings counted. */
import { GodwitError } from '../../../errors.ts';
import type { Session } from '../session.ts';
import { columnList, literal, tableIdent } from '../sql.ts';
import { takenBy } from './columns.ts';
import { type Into, objection } from './load-data.ts';
import type { Field } from './texts.ts';

/** Characters of one statement, when the server takes as much. */
const charsAtOnce = 1024 * 1024;

export class Inserter {
  readonly #session: Session;
  readonly #head: string;
  readonly #replacing: boolean;
  readonly #values: readonly ((field: Field) => string)[];
  #packet: number | undefined;

  constructor(session: Session, into: Into) {
    this.#session = session;
    this.#replacing = into.replacing === true;
    this.#head = `${this.#replacing ? 'REPLACE' : 'INSERT'} INTO ${tableIdent(into.table)} (${columnList(into.columns.map(({ name }) => name))}) VALUES `;
    this.#values = into.columns.map((column) => {
      const taken = takenBy(column, 'raw');
      return (field) => {
        if (field === null) return 'NULL';
        // Spares the server the digits and the packet twice the bytes.
        if (column.type.kind === 'bytes' && /^\\x([0-9a-f]{2})*$/.test(field))
          return field === '\\x' ? "''" : `X'${field.slice(2)}'`;
        return taken ? taken(literal(field)) : literal(field);
      };
    });
  }

  /** What the server objects to; the caller then takes all of it back. */
  async put(rows: readonly (readonly Field[])[]): Promise<{ refused?: GodwitError; bytes: number }> {
    const most = await this.#longest();
    let bytes = 0;
    let tuples: string[] = [];
    let chars = 0;
    const send = async (): Promise<GodwitError | undefined> => {
      const outcome = await this.#session.run(this.#head + tuples.join(','));
      const refused = await objection(this.#session, outcome, tuples.length, this.#replacing);
      tuples = [];
      chars = 0;
      return refused;
    };
    for (const row of rows) {
      const tuple = `(${this.#values.map((value, c) => value(row[c] ?? null)).join(',')})`;
      if (Buffer.byteLength(tuple) + this.#head.length > most) return { refused: tooLarge(), bytes };
      // At most three bytes a character (those of four are two characters here).
      if (
        tuples.length > 0 &&
        (chars + tuple.length > charsAtOnce || (chars + tuple.length) * 3 + this.#head.length > most)
      ) {
        const refused = await send();
        if (refused) return { refused, bytes };
      }
      tuples.push(tuple);
      chars += tuple.length + 1;
      bytes += tuple.length;
    }
    const refused = tuples.length > 0 ? await send() : undefined;
    return { ...(refused ? { refused } : {}), bytes };
  }

  async #longest(): Promise<number> {
    if (this.#packet === undefined) {
      const [row] = await this.#session.query<{ bytes: number }>('SELECT @@max_allowed_packet AS bytes');
      this.#packet = Number(row?.bytes ?? 1_048_576) - 1024;
    }
    return this.#packet;
  }
}

const tooLarge = (): GodwitError =>
  new GodwitError(
    'ROW_TOO_LARGE',
    'A row is larger than max_allowed_packet of the server, which LOAD DATA LOCAL would not heed: SET GLOBAL local_infile = ON, or raise max_allowed_packet.',
    { native: '1153' },
  );
