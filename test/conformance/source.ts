/**
 * What every source must do, in executable form. A connector passes when `testSource` is green against its real server.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Chunk,
  type Read,
  type Snapshot,
  type SnapshotRef,
  type Source,
  type Table,
  type TableName,
  tableText,
} from '../../connectors/contract.ts';
import type { Row } from '../../connectors/types.ts';
import { asGodwitError } from '../../errors.ts';

/** A prepared server, and the hands of somebody else on it. */
export type SourceSubject = AsyncDisposable & {
  /** A new source on it; the test disposes. */
  open(): Source;
  readonly tables: {
    /** At least 1,000 rows and a key, its column `id` an integer. */
    readonly keyed: TableName;
    /** Absent where every table has a key. */
    readonly keyless?: TableName;
    readonly empty: TableName;
    /** All that a run would take. */
    readonly all: readonly TableName[];
  };
  /** Counted by the server itself. */
  count(name: TableName): Promise<number>;
  /** One row more, committed. */
  insert(name: TableName): Promise<void>;
  /** The same rows in new storage: TRUNCATE and fill again, a rewrite … */
  replaceStorage(name: TableName): Promise<void>;
  /** Ends every connection of the source, as a restart of the server would. */
  cutConnections(): Promise<void>;
  /** Why this server's tables cannot be told from others of the same name: `replaceStorage` goes unnoticed. */
  readonly noStorageIdentity?: string;
};

export const never = new AbortController().signal;
export const ownMoment: SnapshotRef = { consistency: 'chunk' };
/** What its readers are given; nothing but the moment of each chunk where the source has no snapshot to share. */
export const under = ({ consistency, token }: Snapshot): SnapshotRef =>
  consistency === 'snapshot' ? { consistency, token } : ownMoment;

export const wantRows = (table: Table, over: Partial<Read> = {}): Read => ({
  columns: table.columns.map(({ name }) => ({ name, shape: 'native' })),
  snapshot: ownMoment,
  format: 'rows',
  batch: { rows: 500, bytes: 1_000_000 },
  signal: never,
  ...over,
});

export async function readRows(source: Source, table: Table, chunk: Chunk, over: Partial<Read> = {}): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const batch of source.read(table, chunk, wantRows(table, over))) {
    if (batch.kind !== 'rows') throw new Error(`rows were asked for, ${batch.kind} came`);
    rows.push(...batch.rows);
  }
  return rows;
}

export type ReadBytes = { readonly bytes: Buffer; readonly rows: number | undefined };

export async function readBytes(source: Source, table: Table, chunk: Chunk, over: Partial<Read>): Promise<ReadBytes> {
  const bytes: Uint8Array[] = [];
  let rows: number | undefined;
  for await (const batch of source.read(table, chunk, wantRows(table, over))) {
    if (batch.kind !== 'bytes') throw new Error(`bytes were asked for, ${batch.kind} came`);
    // The buffers belong to the reader: they must not change under it.
    bytes.push(...batch.bytes);
    rows = batch.rows ?? rows;
  }
  return { bytes: Buffer.concat(bytes), rows };
}

export const whole: Chunk = { id: 1, kind: 'all', bounds: {}, rows: 0 };
export const text = (rows: readonly Row[]): string[] =>
  rows.map((row) => JSON.stringify(row, (_, value) => (typeof value === 'bigint' ? `${value}n` : value))).sort();

export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return asGodwitError(error).code;
  }
  return 'no error';
}

export function testSource(name: string, make: () => Promise<SourceSubject>): void {
  describe(name, () => {
    let subject: SourceSubject;
    let source: Source;
    const described = async (table: TableName): Promise<Table> => source.describe(table);
    const chunksOf = (table: Table, rows: number, snapshot: SnapshotRef, after?: Chunk) =>
      Array.fromAsync(source.split(table, { size: { rows, bytes: 1e12 }, snapshot, after, signal: never }));

    beforeAll(async () => {
      subject = await make();
      source = subject.open();
    });
    afterAll(async () => {
      await source?.[Symbol.asyncDispose]();
      await subject?.[Symbol.asyncDispose]();
    });

    test('two sources on one database have one identity', async () => {
      await using other = subject.open();
      expect(await other.identity()).toBe(await source.identity());
    });

    test('every check of a good server passes', async () => {
      const checks = await source.check();
      expect(checks.filter(({ outcome }) => outcome !== 'pass')).toEqual([]);
      expect(checks.length).toBeGreaterThan(3);
    });

    test('all tables are listed with an estimate, and described', async () => {
      const listed = new Set((await source.tables()).map((table) => tableText(table.name)));
      for (const table of subject.tables.all) expect(listed).toContain(tableText(table));
      const tables = await source.describeAll(subject.tables.all);
      expect(tables.map((table) => (table instanceof Error ? table.message : tableText(table.name)))).toEqual(
        subject.tables.all.map(tableText),
      );
    });

    test('a missing table is an error in its place, and names the nearest', async () => {
      const typo = { ...subject.tables.keyed, name: `${subject.tables.keyed.name}x` };
      const [good, bad] = await source.describeAll([subject.tables.keyed, typo]);
      expect(good).not.toBeInstanceOf(Error);
      expect(asGodwitError(bad).code).toBe('TABLE_MISSING');
      expect(asGodwitError(bad).message).toContain(tableText(subject.tables.keyed));
      expect(await codeOf(source.describe(typo))).toBe('TABLE_MISSING');
    });

    test('a description is plain JSON and the same twice', async () => {
      const table = await described(subject.tables.keyed);
      expect(JSON.parse(JSON.stringify(table))).toEqual(JSON.parse(JSON.stringify(await described(table.name))));
    });

    test('chunks cover every row of every table exactly once, under one snapshot', async () => {
      await using snapshot = await source.open();
      for (const found of await source.describeAll(subject.tables.all)) {
        if (found instanceof Error) throw found;
        const one = text(await readRows(source, found, whole, { snapshot: under(snapshot) }));
        const chunks = await chunksOf(found, 100, under(snapshot));
        const parts: Row[] = [];
        for (const chunk of chunks)
          parts.push(...(await readRows(source, found, chunk, { snapshot: under(snapshot) })));
        expect(text(parts), tableText(found.name)).toEqual(one);
        expect(one.length).toBe(await subject.count(found.name));
        expect(chunks.map((chunk) => chunk.id)).toEqual(chunks.map((_, i) => i + 1));
      }
    });

    test('chunks are found again from behind any chunk', async () => {
      await using snapshot = await source.open();
      const table = await described(subject.tables.keyed);
      const chunks = await chunksOf(table, 150, under(snapshot));
      expect(chunks.length).toBeGreaterThan(4);
      for (const [i, chunk] of chunks.entries()) {
        const stored = JSON.parse(JSON.stringify(chunk)) as Chunk;
        const rest = await chunksOf(table, 150, under(snapshot), stored);
        expect(rest.map(({ id, bounds }) => ({ id, bounds }))).toEqual(
          chunks.slice(i + 1).map(({ id, bounds }) => ({ id, bounds })),
        );
      }
    });

    test('a small table and one without a key are one chunk', async () => {
      const small = await described(subject.tables.empty);
      expect(await chunksOf(small, 1000, ownMoment)).toMatchObject([{ id: 1, kind: 'all' }]);
      if (!subject.tables.keyless) return;
      const keyless = await described(subject.tables.keyless);
      expect(keyless.key).toEqual([]);
      expect(await chunksOf(keyless, 1, ownMoment)).toMatchObject([{ id: 1, kind: 'all' }]);
    });

    test('the snapshot stays where it was; a chunk of its own moment sees what is new', async ({ skip }) => {
      await using snapshot = await source.open();
      if (snapshot.consistency === 'chunk') return skip('the source gives no snapshot that others can read');
      const table = await described(subject.tables.keyed);
      const before = await subject.count(table.name);
      await subject.insert(table.name);
      expect(await readRows(source, table, whole, { snapshot: under(snapshot) })).toHaveLength(before);
      expect(await readRows(source, table, whole)).toHaveLength(before + 1);
    });

    test('rows arriving between split and read fall into a chunk', async () => {
      const table = await described(subject.tables.keyed);
      const chunks = await chunksOf(table, 200, ownMoment);
      await subject.insert(table.name);
      let rows = 0;
      for (const chunk of chunks) rows += (await readRows(source, table, chunk)).length;
      expect(rows).toBe(await subject.count(table.name));
    });

    test('byte formats say how many rows they had, on the last batch', async () => {
      const table = await described(subject.tables.keyed);
      for (const format of source.formats.filter((format) => format !== 'rows')) {
        const read = await readBytes(source, table, whole, { format });
        expect(read.rows, format).toBe(await subject.count(table.name));
        expect(read.bytes.length).toBeGreaterThan(0);
      }
    });

    test('batches keep to the rows asked for', async () => {
      const table = await described(subject.tables.keyed);
      const sizes: number[] = [];
      for await (const batch of source.read(table, whole, wantRows(table, { batch: { rows: 64, bytes: 1e9 } }))) {
        if (batch.kind === 'rows') sizes.push(batch.rows.length);
      }
      expect(Math.max(...sizes)).toBe(64);
    });

    test('columns come in the order asked for, filtered rows not at all', async () => {
      const table = await described(subject.tables.keyed);
      const rows = await readRows(source, table, whole, {
        columns: [{ name: 'id', shape: 'text' }],
        where: [{ column: 'id', op: 'in', values: [10, 13, 16] }],
      });
      expect(text(rows)).toEqual(['["10"]', '["13"]', '["16"]']);
    });

    test('a loop left early leaves the source usable', async () => {
      const table = await described(subject.tables.keyed);
      for (let i = 0; i < 5; i++) {
        for await (const batch of source.read(table, whole, wantRows(table, { batch: { rows: 10, bytes: 1000 } }))) {
          expect(batch.kind).toBe('rows');
          break;
        }
      }
      expect(await readRows(source, table, whole)).toHaveLength(await subject.count(table.name));
    });

    test('the signal ends a read at once, with its reason', async () => {
      const table = await described(subject.tables.keyed);
      for (const format of source.formats) {
        const abort = new AbortController();
        const reading = (async () => {
          for await (const _ of source.read(table, whole, wantRows(table, { format, signal: abort.signal }))) {
            abort.abort(new Error('enough'));
          }
        })();
        await expect(reading, format).rejects.toThrow('enough');
      }
      const early = AbortSignal.abort(new Error('before'));
      await expect(readRows(source, table, whole, { signal: early })).rejects.toThrow('before');
    });

    test('a snapshot that ended is SNAPSHOT_LOST', async ({ skip }) => {
      const table = await described(subject.tables.keyed);
      const snapshot = await source.open();
      if (snapshot.consistency === 'chunk') return skip('the source gives no snapshot that others can read');
      const token = under(snapshot);
      await snapshot[Symbol.asyncDispose]();
      expect(await codeOf(readRows(source, table, whole, { snapshot: token }))).toBe('SNAPSHOT_LOST');
    });

    test('storage replaced after the plan is SOURCE_CHANGED, whichever moment is read', async ({ skip }) => {
      if (subject.noStorageIdentity) return skip(subject.noStorageIdentity);
      const table = await described(subject.tables.keyed);
      await using before = await source.open();
      await subject.replaceStorage(table.name);
      expect(await codeOf(readRows(source, table, whole, { snapshot: under(before) }))).toBe('SOURCE_CHANGED');
      expect(await codeOf(readRows(source, table, whole))).toBe('SOURCE_CHANGED');
      // Described anew, the old snapshot still cannot read what is not there any more: never zero rows instead.
      const again = await described(table.name);
      if (before.consistency === 'snapshot') {
        expect(await codeOf(readRows(source, again, whole, { snapshot: under(before) }))).toBe('SOURCE_CHANGED');
      }
      expect(await readRows(source, again, whole)).toHaveLength(await subject.count(table.name));
    });

    test('connections that end are reported, and the source goes on with new ones', async () => {
      const table = await described(subject.tables.keyed);
      await using snapshot = await source.open();
      const lost = codeOf(snapshot.lost);
      await subject.cutConnections();
      if (snapshot.consistency === 'snapshot') {
        expect(await lost).toBe('SNAPSHOT_LOST');
        expect(await codeOf(readRows(source, table, whole, { snapshot: under(snapshot) }))).toBe('SNAPSHOT_LOST');
      }
      expect(await readRows(source, table, whole)).toHaveLength(await subject.count(table.name));
    });
  });
}
