/**
 * Rows → documents. `_id` is the key: its value, or a document of several in the key's order; without a key a number made
 * of table, chunk and place in the chunk, the same in every attempt. All columns stay under their names, NULL as null.
 */
import { createHash } from 'node:crypto';
import type { PlanColumn, Work } from '../../contract.ts';
import type { Row, Value } from '../../types.ts';
import { bson } from '../bson.ts';
import type { Out } from './out.ts';
import { Misfit, type Put, putOf } from './values.ts';

/** The server takes no larger ones. */
export const largestDocument = 16 * 1024 * 1024;

export type Bad = { readonly column?: string; readonly reason: string };
/** Where in the buffer the value of `_id` lies; its type is a byte before its name. */
export type Id = { type: number; start: number; end: number };

export type RowEncoder = {
  /** Writes the row's document, or nothing when it is bad. */
  encode(out: Out, row: Row, ordinal: number): Bad | undefined;
  /** Of the document written last. */
  readonly id: Id;
};

export function rowEncoder(work: Work, chunk: number): RowEncoder {
  const fields = work.columns.map(fieldOf);
  const id = idOf(work, fields, chunk);
  const inKey = new Set(work.key);
  // A column called `_id` is in the key, and so in `_id`.
  const kept = fields.filter(({ column }) => column.name !== '_id' || !inKey.has('_id'));
  const place: Id = { type: 0, start: 0, end: 0 };
  return {
    id: place,
    encode(out, row, ordinal) {
      const start = out.open();
      let at: Field | undefined;
      try {
        id(out, row, ordinal, place);
        for (let i = 0; i < kept.length; i++) {
          at = kept[i] as Field;
          writeField(out, at, row[at.index]);
        }
        out.close(start);
      } catch (error) {
        if (!(error instanceof Misfit)) throw error;
        out.at = start;
        return { ...(at ? { column: at.column.name } : {}), reason: error.message };
      }
      if (out.at - start <= largestDocument) return undefined;
      const reason = `The document would have ${out.at - start} bytes; ${largestDocument} is the limit.`;
      out.at = start;
      return { reason };
    },
  };
}

type Field = {
  readonly column: PlanColumn;
  /** In the row. */
  readonly index: number;
  /** A byte for the type, the name, its NUL. */
  readonly header: Uint8Array;
  readonly put: Put;
};

const headerOf = (name: string): Buffer => Buffer.concat([Buffer.of(bson.null), Buffer.from(name), Buffer.of(0)]);

function fieldOf(column: PlanColumn, index: number): Field {
  const put = putOf(column.native);
  return { column, index, header: headerOf(column.name), put: column.misfit === 'null' ? orNull(put) : put };
}

/** The mapping's word for what does not fit. */
const orNull =
  (put: Put): Put =>
  (out, value) => {
    const start = out.at;
    try {
      return put(out, value);
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      out.at = start;
      return bson.null;
    }
  };

function writeField(out: Out, { header, put }: Field, value: Value | undefined): void {
  const { length } = header;
  out.room(length + 16);
  const type = out.at;
  const b = out.b;
  for (let i = 0; i < length; i++) b[type + i] = header[i] as number;
  out.at = type + length;
  if (value === null || value === undefined) return;
  const written = put(out, value);
  // The buffer may be another one by now.
  out.b[type] = written;
}

type WriteId = (out: Out, row: Row, ordinal: number, place: Id) => void;

/** Arrays cannot be an `_id`, and JSON may be one: such a key is a document of one field. */
export const standsAlone = ({ native }: PlanColumn): boolean => !native.startsWith('array<') && native !== 'object';

function idOf(work: Work, fields: readonly Field[], chunk: number): WriteId {
  const named = work.key.map((name) => {
    const field = fields.find(({ column }) => column.name === name);
    if (!field) throw new Error(`The key's column ${name} does not move.`);
    return field;
  });
  const [only] = named;
  if (only && named.length === 1 && standsAlone(only.column)) return single({ ...only, header: headerOf('_id') });
  const made = madeId(work, chunk);
  if (named.length > 0) return composite(named);
  const date = fields.find(({ column }) => column.constant !== undefined && column.constant === work.snapshotDate);
  return work.mode === 'dumping' && date ? composite([date], made) : single(undefined, made);
}

/** An `_id` for what has no key. Twelve bytes, as an ObjectId has: 4 of the table, 4 of the chunk, 4 of the row's place in it. */
export function madeId(work: Work, chunk: number): (out: Out, ordinal: number) => void {
  const said = JSON.stringify([work.jobUid, work.name.schema, work.name.name]);
  const bytes = Buffer.concat([createHash('sha256').update(said).digest().subarray(0, 4), Buffer.alloc(8)]);
  bytes.writeUInt32BE(chunk >>> 0, 4);
  return (out, ordinal) => {
    bytes.writeUInt32BE(ordinal >>> 0, 8);
    out.bytes(bytes);
  };
}

const single =
  (field: Field | undefined, made?: (out: Out, ordinal: number) => void): WriteId =>
  (out, row, ordinal, place) => {
    place.type = out.at;
    place.start = out.at + 5;
    if (field) {
      writeField(out, field, row[field.index]);
    } else {
      out.byte(bson.objectId);
      out.name('_id');
      made?.(out, ordinal);
    }
    place.end = out.at;
  };

const idHeader = headerOf('_id');
const rowHeader = headerOf('row');

const composite =
  (fields: readonly Field[], made?: (out: Out, ordinal: number) => void): WriteId =>
  (out, row, ordinal, place) => {
    place.type = out.at;
    out.bytes(idHeader);
    out.b[place.type] = bson.object;
    place.start = out.at;
    const start = out.open();
    for (const field of fields) writeField(out, field, row[field.index]);
    if (made) {
      const type = out.at;
      out.bytes(rowHeader);
      out.b[type] = bson.objectId;
      made(out, ordinal);
    }
    out.close(start);
    place.end = out.at;
  };

/** Adds the value of an `_id` to a list of them: a byte for its type, then its bytes. */
export function appendId(ids: Out, b: Buffer, { type, start, end }: Id): void {
  const length = end - start;
  ids.room(length + 1);
  ids.b[ids.at] = b[type] as number;
  b.copy(ids.b, ids.at + 1, start, end);
  ids.at += length + 1;
}
