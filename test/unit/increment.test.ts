/** From where incremental tables are read, what is remembered, and how keys are compared: the pure part. */
import { describe, expect, test } from 'vitest';
import { instantOf, within } from '../../activities/compare.ts';
import { type Following, rangeOf, stateAfter } from '../../activities/plan/bounds.ts';
import {
  epochOf,
  instantOfWall,
  microsOf,
  microsOfEpoch,
  textOf,
  unitBySize,
  wallMicros,
} from '../../activities/plan/instants.ts';
import { comparer, missingFrom } from '../../activities/sweep.ts';
import type { Batch, Follow, KeyBatch, TableState, Watermark, Work } from '../../connectors/contract.ts';

const follow: Follow = { by: 'bookmark', column: 'at', form: 'native' };
const following = (over: Partial<Following> = {}): Following => ({
  follow,
  kind: 'timestamptz',
  nullable: false,
  lags: { buffer: 0, grace: 0, recheck: 3600 },
  timezone: 'UTC',
  ...over,
});
const mark = (upto: string | undefined, clock: string, more: Partial<Watermark> = {}): Watermark => ({
  ...(upto === undefined ? {} : { upto }),
  clock,
  ...more,
});
const state = (settled: Watermark, more: Partial<TableState> = {}): TableState => ({
  follow,
  settled,
  startedAt: settled.clock,
  succeededAt: settled.clock,
  run: 'r',
  ...more,
});

describe('instants', () => {
  test.each([
    ['2024-02-29T12:00:00.5Z', 1709208000500000n],
    ['1969-12-31T23:59:59.999999Z', -1n],
    ['2024-02-29', 1709164800000000n],
    ['-000043-03-15T00:00:00', BigInt(new Date('-000043-03-15T00:00:00Z').getTime()) * 1000n],
  ])('%s', (text, micros) => {
    expect(microsOf(text)).toBe(micros);
    if (!text.startsWith('-')) expect(textOf(micros, text.length === 10 ? 'date' : 'timestamptz')).toBe(text);
  });

  test('infinities are none', () => {
    expect(microsOf('infinity')).toBeUndefined();
  });

  test('epochs of each unit, by their size', () => {
    for (const [text, form] of [
      ['1709208000', 'seconds'],
      ['1709208000000', 'milliseconds'],
      ['1709208000000000', 'microseconds'],
      ['1709208000000000000', 'nanoseconds'],
    ] as const) {
      expect(unitBySize(text)).toBe(form);
      expect(microsOfEpoch(text, form)).toBe(1709208000000000n);
      expect(epochOf(1709208000000000n, form)).toBe(text);
    }
    expect(microsOfEpoch('1709208000.25', 'seconds')).toBe(1709208000250000n);
    expect(microsOfEpoch('-0.000001', 'seconds')).toBe(-1n);
    expect(epochOf(-1n, 'seconds')).toBe('-1');
  });

  test('the wall of a zone and back', () => {
    const at = microsOf('2024-07-01T10:00:00.123456Z') as bigint;
    expect(textOf(wallMicros(at, 'Asia/Kolkata'), 'timestamp')).toBe('2024-07-01T15:30:00.123456');
    expect(instantOfWall(wallMicros(at, 'America/New_York'), 'America/New_York')).toBe(at);
  });
});

describe('the lower bound', () => {
  const now = mark('2024-01-02T10:00:00Z', '2024-01-02T10:00:01Z');

  test('is the last bookmark less the recheck window', () => {
    const before = state(mark('2024-01-01T10:00:00Z', '2024-01-01T10:00:01Z'), { startedAt: '2024-01-01T10:00:01Z' });
    expect(rangeOf(before, now, following())).toEqual({
      column: 'at',
      from: '2024-01-01T09:00:00Z',
      upto: '2024-01-02T10:00:00Z',
    });
  });

  test('is never hidden by a bookmark in the future', () => {
    const before = state(mark('2099-01-01T00:00:00Z', '2024-01-01T10:00:00Z'));
    expect(rangeOf(before, now, following()).from).toBe('2024-01-01T09:00:00Z');
  });

  test('reaches back to what was open then', () => {
    const before = state(mark('2024-01-01T10:00:00Z', '2024-01-01T10:00:01Z', { oldest: '2024-01-01T02:00:00Z' }));
    expect(rangeOf(before, now, following()).from).toBe('2024-01-01T01:00:00Z');
  });

  test('of the lags is the least', () => {
    const before = state(mark('2024-01-01T10:00:00Z', '2024-01-01T10:00:01Z'), {
      startedAt: '2024-01-01T10:00:00Z',
      succeededAt: '2024-01-01T11:00:00Z',
    });
    const lags = { buffer: 7200, grace: 86_400, recheck: 0 };
    expect(rangeOf(before, now, following({ lags: { ...lags, grace: 0 } })).from).toBe('2024-01-01T08:00:00Z');
    expect(rangeOf(before, now, following({ lags })).from).toBe('2023-12-31T11:00:00Z');
  });

  test('of bookmarks without a zone counts the zone in which they may have been written', () => {
    const before = state(mark('2024-01-01T09:30:00', '2024-01-01T10:00:00Z'));
    const how = following({
      kind: 'timestamp',
      timezone: 'America/New_York',
      lags: { buffer: 0, grace: 0, recheck: 0 },
    });
    // 10:00 UTC is 05:00 there.
    expect(rangeOf(before, now, how).from).toBe('2024-01-01T05:00:00');
  });

  test('of bookmarks without a zone reaches back as long as somebody was open, in whatever zone they are written', () => {
    // 05:00 is the wall at 10:00 UTC of a zone that is not the job's; who was open for three hours wrote 02:00.
    const before = state(mark('2024-01-01T05:00:00', '2024-01-01T10:00:00Z', { oldest: '2024-01-01T07:00:00Z' }));
    expect(rangeOf(before, now, following({ kind: 'timestamp' })).from).toBe('2024-01-01T01:00:00');
  });

  test('of bookmarks without a zone goes back with the clock of the job', () => {
    // New York puts its clocks back at 06:00 UTC: what was written at 06:10 UTC shows 01:10, after 01:50.
    const how = following({
      kind: 'timestamp',
      timezone: 'America/New_York',
      lags: { buffer: 0, grace: 0, recheck: 0 },
    });
    const before = state(mark('2024-11-03T01:50:00', '2024-11-03T05:50:00Z'));
    const after = mark('2024-11-03T01:50:00', '2024-11-03T06:20:00Z');
    expect(rangeOf(before, after, how).from).toBe('2024-11-03T00:50:00');
  });

  test('of texts counts the zone in which they may have been written', () => {
    const how = following({ follow: { ...follow, form: 'text' }, kind: 'timestamptz', timezone: 'America/New_York' });
    expect(rangeOf(state(mark(undefined, '2024-01-01T10:00:00Z')), now, how).from).toBe('2024-01-01T04:00:00Z');
  });

  test('of epochs is a number of their unit, rounded down', () => {
    const before = state(mark('1704103200123', '2024-01-01T10:00:01.9999Z'));
    const how = following({ follow: { ...follow, form: 'seconds' }, kind: 'int64' });
    expect(rangeOf(state(mark('1704103200', '2024-01-01T10:00:01.9Z')), now, how).from).toBe('1704099600');
    expect(rangeOf(before, now, following({ follow: { ...follow, form: 'milliseconds' } })).from).toBe('1704099600123');
  });

  test('of keys is the floor, and without one the beginning', () => {
    const by: Follow = { by: 'key', column: 'id', form: 'native' };
    const how = following({ follow: by, kind: 'int64' });
    expect(rangeOf(state(mark('20000', 'x', { floor: '10000' })), mark('30000', 'y'), how)).toEqual({
      column: 'id',
      from: '10000',
      upto: '30000',
    });
    expect(rangeOf(state(mark('20', 'x')), mark('30', 'y'), how)).toEqual({ column: 'id', upto: '30' });
  });

  test('takes the rows without a bookmark along', () => {
    const before = state(mark(undefined, '2024-01-01T10:00:00Z'));
    expect(rangeOf(before, mark(undefined, '2024-01-02T10:00:00Z'), following({ nullable: true })).nulls).toBe(true);
  });
});

describe('what is remembered', () => {
  const ended = (one: Watermark, now: Watermark) =>
    !(one.open as string[]).some((id) => (now.active as string[]).includes(id));
  const how = { follow, run: 'r', ended };
  const first = mark('a', '1', { open: ['x'], active: ['x'] });

  test('with nothing open the run itself is settled', () => {
    expect(stateAfter(undefined, mark('a', '1'), how)).toMatchObject({ settled: { upto: 'a' } });
    expect(stateAfter(undefined, mark('a', '1'), how).pending).toBeUndefined();
  });

  test('with something open the bound stays until that has ended and a later run has read', () => {
    const one = stateAfter(state(mark('0', '0')), first, how);
    expect(one).toMatchObject({ settled: { upto: '0' }, pending: { upto: 'a' } });
    const two = stateAfter(one, mark('b', '2', { open: ['x', 'y'], active: ['x', 'y'] }), how);
    expect(two).toMatchObject({ settled: { upto: '0' }, pending: { upto: 'a' } });
    const three = stateAfter(two, mark('c', '3', { open: ['z'], active: ['z'] }), how);
    expect(three).toMatchObject({ settled: { upto: 'a' }, pending: { upto: 'c' } });
    expect(stateAfter(three, mark('d', '4', { active: ['q'] }), how)).toMatchObject({ settled: { upto: 'd' } });
  });

  test('after a load with rows of others in hand all keys are looked at once', () => {
    const by: Follow = { by: 'key', column: 'id', form: 'native' };
    const loaded = stateAfter(undefined, first, { ...how, follow: by });
    const range = rangeOf(loaded, mark('c', '3'), following({ follow: by, kind: 'int64' }));
    expect(range).toEqual({ column: 'id', upto: 'c' });
  });

  test('who is active is not kept', () => {
    expect(JSON.stringify(stateAfter(undefined, first, how))).not.toContain('active');
  });
});

describe('bookmarks of texts', () => {
  test.each([
    ['2024-02-29T12:00:00Z', '2024-02-29T12:00:00Z'],
    ['2024-02-29 12:00:00.123456', '2024-02-29T12:00:00.123456Z'],
    ['2024-02-29 17:30:00+05:30', '2024-02-29T12:00:00Z'],
    ['2024/2/9 7:05', '2024-02-09T07:05:00Z'],
    ['20240229', '2024-02-29T00:00:00Z'],
    ['Thu, 29 Feb 2024 17:30:00 +0530', '2024-02-29T12:00:00Z'],
    ['29 Feb 2024 12:00:00', '2024-02-29T12:00:00Z'],
    ['1709208000', '2024-02-29T12:00:00Z'],
    ['1709208000000', '2024-02-29T12:00:00Z'],
  ])('%s', (text, iso) => {
    expect(instantOf(text)).toBe(microsOf(iso));
  });

  test('what is none', () => {
    expect(['soon', '', '12', 'x 2024'].map(instantOf)).toEqual([undefined, undefined, undefined, undefined]);
  });

  const work = {
    source: { name: { schema: 's', name: 't' } },
    columns: [{ from: 'id' }, { from: 'at' }],
  } as unknown as Work;
  const rows = async (...values: (string | null)[]) => {
    const leftOut = { rows: 0 };
    const batch: Batch = { kind: 'rows', rows: values.map((value, i) => [i, value]) };
    const batches = (async function* () {
      yield batch;
    })();
    const increment = { range: { column: 'at', from: '2024-01-01T00:00:00Z' }, existing: 'update' as const };
    const kept: unknown[] = [];
    for await (const one of within(batches, work, increment, leftOut))
      kept.push(...(one.kind === 'rows' ? one.rows : []));
    return { kept: kept.length, leftOut: leftOut.rows };
  };

  test('are compared by the worker, and those left out are counted', async () => {
    expect(await rows('2023-12-31 23:59', '2024-01-01', null, 'Mon, 01 Jan 2024 00:00:00 GMT')).toEqual({
      kept: 3,
      leftOut: 1,
    });
  });

  test('that nobody can read stop the table without being quoted', async () => {
    await expect(rows('secret-value')).rejects.toMatchObject({ code: 'BOOKMARK_UNREADABLE' });
    await expect(rows('secret-value')).rejects.not.toThrow('secret-value');
  });
});

describe('keys of both sides', () => {
  const batches = async function* (keys: readonly string[], size = 3): AsyncGenerator<KeyBatch> {
    for (let at = 0; at < keys.length; at += size) yield keys.slice(at, at + size);
  };
  const int = comparer([{ kind: 'int64' }]);
  const gone = async (there: readonly string[], here: readonly string[], compare = int) =>
    (await Array.fromAsync(missingFrom(batches(there), () => batches(here, 2), compare))).flat();

  test('what one has and the other has not', async () => {
    expect(await gone(['1', '2', '9', '10', '11'], ['1', '9', '12'])).toEqual(['2', '10', '11']);
    expect(await gone([], ['1'])).toEqual([]);
    expect(await gone(['1', '2'], [])).toEqual(['1', '2']);
    expect(await gone(['-10', '-9', '0'], ['-10', '0', '5'])).toEqual(['-9']);
  });

  test('in any random sets', async () => {
    for (let round = 0; round < 50; round++) {
      const pick = () => Array.from({ length: 40 }, (_, i) => String(i - 20)).filter(() => Math.random() < 0.6);
      const [there, here] = [pick(), pick()];
      expect(await gone(there, here)).toEqual(there.filter((key) => !here.includes(key)));
    }
  });

  test('nothing is said when the other side breaks off, or comes in another order', async () => {
    const breaks = async function* (): AsyncGenerator<KeyBatch> {
      yield ['1'];
      throw new Error('connection lost');
    };
    await expect(Array.fromAsync(missingFrom(batches(['1', '2', '3']), breaks, int))).rejects.toThrow(
      'connection lost',
    );
    await expect(gone(['1', '2', '3', '10'], ['3', '2', '1', '0', '4', '5'])).rejects.toThrow('another order');
  });

  test('the other side is read only when this one has begun', async () => {
    const order: string[] = [];
    const there = async function* (): AsyncGenerator<KeyBatch> {
      order.push('target');
      yield ['1'];
    };
    const here = () => {
      order.push('source');
      return batches(['1']);
    };
    await Array.fromAsync(missingFrom(there(), here, int));
    expect(order).toEqual(['target', 'source']);
  });

  test('numbers by value, texts by their bytes, several columns one after another', () => {
    const sorted = (keys: string[], ...kinds: ('int64' | 'text' | 'decimal' | 'uuid')[]) =>
      [...keys].sort(comparer(kinds.map((kind) => ({ kind }))));
    expect(sorted(['10', '9', '-1', '9223372036854775807', '9223372036854775806'], 'int64')).toEqual([
      '-1',
      '9',
      '10',
      '9223372036854775806',
      '9223372036854775807',
    ]);
    const texts = ['a', 'B', '', 'ä', '\u{1f600}', '\uffff', 'aa'];
    const bytes = [...texts].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(sorted(texts, 'text')).toEqual(bytes);
    expect(sorted(['1.5', '1.25', '-0.5', '10'], 'decimal')).toEqual(['-0.5', '1.25', '1.5', '10']);
    expect(comparer([{ kind: 'decimal' }])('1.0', '1.00')).toBe(0);
    expect(sorted(['NaN', '1', 'Infinity', '-Infinity', '-2'], 'decimal')).toEqual([
      '-Infinity',
      '-2',
      '1',
      'Infinity',
      'NaN',
    ]);
    expect(sorted(['2\0a', '10\0a', '2\0B'], 'int64', 'text')).toEqual(['2\0B', '2\0a', '10\0a']);
  });
});
