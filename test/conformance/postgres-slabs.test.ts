import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import type { Read } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import { createDatabase, missing } from '../servers/shared.ts';

describe.skipIf(await missing('postgres'))('memory that is read into again', () => {
  test('several copies at once, taken at different speeds and given back at different times, keep every byte', async () => {
    await using database = await createDatabase();
    const client = new pg.Client(database.url);
    await client.connect();
    await client.query(
      `CREATE TABLE big AS SELECT i AS id, repeat(md5(i::text), 1 + i % 9) AS text FROM generate_series(1, 120000) i`,
    );
    await client.end();
    await using source = await openSource({ url: database.url });
    const table = await source.describe({ schema: 'public', name: 'big' });
    const want: Omit<Read, 'framed'> = {
      columns: table.columns.map(({ name }) => ({ name, shape: 'native' })),
      snapshot: { consistency: 'chunk' },
      format: 'pg-text',
      batch: { rows: 10_000, bytes: 1024 * 1024 },
      signal: new AbortController().signal,
    };
    const digest = async (framed: boolean, keeps: number) => {
      const hash = createHash('sha256');
      const kept: (() => void)[] = [];
      for await (const batch of source.read(
        table,
        { id: 1, kind: 'all', bounds: null, rows: -1 },
        { ...want, framed },
      )) {
        if (batch.kind !== 'bytes') throw new Error(batch.kind);
        // Looked at late: bytes that were read over meanwhile would show.
        kept.push(() => {
          for (const part of batch.bytes) hash.update(part);
          batch.release?.();
        });
        if (kept.length > keeps) kept.shift()?.();
        await turn();
      }
      for (const look of kept) look();
      return hash.digest('hex');
    };
    const alone = [await digest(true, 0), await digest(false, 0)];
    const together = await Promise.all([0, 3, 1, 7, 2, 5].map((keeps, i) => digest(i % 2 === 0, keeps)));
    expect(together).toEqual(together.map((_, i) => alone[i % 2]));
  });
});
