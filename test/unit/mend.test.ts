import { describe, expect, test } from 'vitest';
import type { PlanColumn, RowsBatch } from '../../connectors/contract.ts';
import { bson } from '../../connectors/mongodb/bson.ts';
import { cellOf } from '../../connectors/mongodb/cells.ts';
import { openTarget as mongodb } from '../../connectors/mongodb/target.ts';
import { openTarget as mysql } from '../../connectors/mysql/target.ts';
import { openTarget as postgres } from '../../connectors/postgres/target.ts';
import type { LogicalType, Value } from '../../connectors/types.ts';
import { mended } from '../../transforms/mend.ts';

const holdersOf = {
  postgres: postgres({ url: 'postgresql://nobody@nowhere/x' }).holds,
  mysql: mysql({ url: 'mysql://nobody@nowhere/x' }).holds,
  mongodb: mongodb({ url: 'mongodb://nowhere/x' }).holds,
};
type Name = keyof typeof holdersOf;

const column = (type: LogicalType, misfit: 'null' | 'clamp'): PlanColumn => ({
  from: 'v',
  name: 'v',
  shape: 'native',
  type,
  native: '',
  nullable: true,
  fit: 'checked',
  misfit,
});

async function mend(value: Value, type: LogicalType, target: Name, misfit: 'null' | 'clamp' = 'null') {
  const batches = (async function* (): AsyncGenerator<RowsBatch> {
    yield { kind: 'rows', rows: [[value]] };
  })();
  for await (const { rows } of mended(batches, [column(type, misfit)], holdersOf[target])) return rows[0]?.[0];
  return undefined;
}

describe('A value is mended where its target cannot hold it, and nowhere else', () => {
  const date = { kind: 'date', wide: true } as const;
  const moment = { kind: 'timestamptz', wide: true } as const;
  const time = { kind: 'time', wide: true } as const;
  /** Targets that hold it. */
  const cases: readonly (readonly [LogicalType, string, readonly Name[]])[] = [
    [date, '2024-02-29', ['postgres', 'mysql', 'mongodb']],
    [date, '+010000-01-01', ['postgres', 'mongodb']],
    [date, '-004713-11-24', ['postgres', 'mongodb']],
    [date, '-004713-11-23', ['mongodb']],
    [date, '+5874898-01-01', ['mongodb']],
    [date, '+010000-02-30', []],
    [date, 'infinity', ['postgres']],
    [date, '0000-00-00', []],
    [date, '2023-02-29', []],
    [moment, '+294276-12-31T23:59:59.999999Z', ['postgres', 'mongodb']],
    [moment, '+294277-01-01T00:00:00Z', ['mongodb']],
    [moment, '-infinity', ['postgres']],
    [moment, '+010000-01-01', []],
    [time, '24:00:00', ['postgres', 'mysql', 'mongodb']],
    [time, '24:00:01', []],
    [time, '-00:00:01', []],
  ];
  test.each(cases)('%j %s', async (type, value, holders) => {
    for (const target of ['postgres', 'mysql', 'mongodb'] as const) {
      expect(await mend(value, type, target), target).toBe(holders.includes(target) ? value : null);
    }
  });

  test('the nearest value is the nearest the target has', async () => {
    expect(await mend('+294277-01-01T00:00:00Z', moment, 'postgres', 'clamp')).toBe('+294276-12-31T23:59:59.999999Z');
    expect(await mend('-271821-04-20T00:00:00Z', moment, 'postgres', 'clamp')).toBe('-004713-11-24T00:00:00Z');
    expect(await mend('+294277-01-01T00:00:00Z', moment, 'mysql', 'clamp')).toBe('9999-12-31T23:59:59.999999Z');
    expect(await mend('+6000000-01-01', date, 'postgres', 'clamp')).toBe('+5874897-12-31');
  });

  test('a source that is told of other years lets them pass', () => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(Date.UTC(12345, 0, 1)));
    const far = { name: 'v', path: ['v'], form: 'date', wide: true } as unknown as Parameters<typeof cellOf>[0];
    const read = (wide: boolean) =>
      cellOf(far, { shape: 'native', guard: { misfit: 'null', wide } })(bytes, bson.date, 0);
    expect(read(false)).toBeNull();
    expect(read(true)).toBe('+012345-01-01T00:00:00Z');
  });
});
