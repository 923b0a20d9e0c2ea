/** What is known of another tool's table, as Godwit remembers it. */
import { describe, expect, test } from 'vitest';
import { stateFrom } from '../../activities/remember.ts';
import type { Follow } from '../../connectors/contract.ts';
import type { LogicalKind } from '../../connectors/types.ts';
import { asGodwitError } from '../../errors.ts';

const at = { table: 'public.log', target: 'there' };
const byKey: Follow = { by: 'key', column: 'id', form: 'native' };
const byBookmark: Follow = { by: 'bookmark', column: 'at', form: 'native' };
const key = (lastKey: string, kind: LogicalKind, timezone = 'UTC') =>
  stateFrom({ table: 'log', lastRun: '2024-01-15T12:00:00Z', lastKey }, { follow: byKey, kind, timezone, run: 'r', at })
    .settled;
const began = (lastRun: string, timezone: string) =>
  stateFrom({ table: 'log', lastRun }, { follow: byBookmark, kind: 'timestamptz', timezone, run: 'r', at }).startedAt;

describe('the last key', () => {
  test.each<[string, LogicalKind, string | undefined, string | undefined, string?]>([
    ['184467', 'int64', '184467', '174467'],
    [' 007 ', 'int32', '7', '-9993'],
    ['5', 'uint64', '5', '0'],
    ['100', 'int8', '100', '-128'],
    ['-30000', 'int16', '-30000', '-32768'],
    ['A0000000-0000-1000-0000-00000000000B', 'uuid', 'a0000000-0000-1000-0000-00000000000b', 'a0000000-0000-1000-0000-00000000000b'],
    ['a000000000001000000000000000000b', 'uuid', 'a0000000-0000-1000-0000-00000000000b', 'a0000000-0000-1000-0000-00000000000b'],
    [' as it is ', 'text', ' as it is ', ' as it is '],
    // A column without a zone shows what is written without one; of an instant its clock may be UTC's or the job's.
    ['2024-01-15 02:00:00.5', 'timestamp', '2024-01-15T02:00:00.5', '2024-01-15T02:00:00.5', 'Asia/Kolkata'],
    ['2024-01-15T02:00:00Z', 'timestamp', '2024-01-15T02:00:00', '2024-01-15T02:00:00', 'Asia/Kolkata'],
    ['2024-01-15T02:00:00Z', 'timestamp', '2024-01-14T21:00:00', '2024-01-14T21:00:00', 'America/New_York'],
    ['2024-01-15T02:00:00Z', 'date', '2024-01-14', '2024-01-14', 'America/New_York'],
    ['2024-01-15 02:00:00', 'timestamptz', '2024-01-14T20:30:00Z', '2024-01-14T20:30:00Z', 'Asia/Kolkata'],
    ['2024-01-15T02:00:00+05:30', 'timestamptz', '2024-01-14T20:30:00Z', '2024-01-14T20:30:00Z', 'UTC'],
  ])('%j of kind %s', (given, kind, upto, floor, timezone) => {
    expect(key(given, kind, timezone)).toMatchObject({ upto, floor });
  }); // biome-ignore format: one line each

  test.each<[string, LogicalKind]>([
    ['secret-17', 'int64'],
    ['1.5', 'int32'],
    ['secret-17', 'uuid'],
    ['secret-17', 'timestamptz'],
  ])('%j is no %s: refused, without a word of it', (given, kind) => {
    const refused = (() => {
      try {
        return String(key(given, kind));
      } catch (error) {
        return `${asGodwitError(error).code} ${asGodwitError(error).message}`;
      }
    })();
    expect(refused).toMatch(/^USAGE public\.log: `last_key` is no /);
    expect(refused).not.toContain(given);
  });
});

test.each([
  ['2024-01-15T12:00:00Z', 'Asia/Kolkata', '2024-01-15T12:00:00Z'],
  ['2024-01-15T12:00:00+05:30', 'America/New_York', '2024-01-15T06:30:00Z'],
  ['2024-01-15T12:00:00-05', 'Asia/Kolkata', '2024-01-15T17:00:00Z'],
  ['2024-01-15 12:00:00', 'Asia/Kolkata', '2024-01-15T06:30:00Z'],
  ['2024-01-15', 'Asia/Kolkata', '2024-01-14T18:30:00Z'],
  ['20240115', 'Asia/Kolkata', '2024-01-14T18:30:00Z'],
  ['15 Jan 2024 12:00:00', 'Asia/Kolkata', '2024-01-15T06:30:00Z'],
  ['Mon, 15 Jan 2024 12:00:00 GMT', 'Asia/Kolkata', '2024-01-15T12:00:00Z'],
  ['15 Jan 2024 12:00:00 -0500', 'Asia/Kolkata', '2024-01-15T17:00:00Z'],
  ['1705320000', 'Asia/Kolkata', '2024-01-15T12:00:00Z'],
  // Half past two there was none: the clocks went from two to three at one o'clock UTC.
  ['2024-03-31T02:30:00', 'Europe/Berlin', '2024-03-31T01:00:00Z'],
  ['2024-10-27T02:30:00', 'Europe/Berlin', '2024-10-27T00:30:00Z'],
])('a last run at %s, in a job of %s, began at %s', (lastRun, timezone, wanted) => {
  expect(began(lastRun, timezone)).toBe(wanted);
});
