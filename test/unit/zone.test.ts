import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { instantOfWall, microsOf, textOf } from '../../activities/plan/instants.ts';
import { cutOffAt } from '../../api/run-request.ts';
import { readConfig } from '../../config.ts';
import { instantOf, isoIn, isZone, nextTimeOfDay, readInstant } from '../../schedules/zone.ts';

describe('the next time the clock of a zone shows a time of day', () => {
  test.each([
    ['06:00:00', 'UTC', '2026-01-10T05:59:59Z', '2026-01-10T06:00:00Z'],
    ['06:00:00', 'UTC', '2026-01-10T06:00:00Z', '2026-01-11T06:00:00Z'],
    ['06:00:30', 'Asia/Kolkata', '2026-01-10T00:00:00Z', '2026-01-10T00:30:30Z'],
    ['00:00:00', 'Pacific/Kiritimati', '2026-01-10T09:59:59Z', '2026-01-10T10:00:00Z'],
    // Clocks go from 02:00 to 03:00: 02:30 is reached when they jump.
    ['02:00:00', 'Europe/Berlin', '2026-03-29T00:00:00Z', '2026-03-29T01:00:00Z'],
    ['03:00:00', 'Europe/Berlin', '2026-03-29T00:00:00Z', '2026-03-29T01:00:00Z'],
    ['02:30:00', 'Europe/Berlin', '2026-03-29T00:00:00Z', '2026-03-29T01:00:00Z'],
    ['02:30:00', 'Europe/Berlin', '2026-03-29T01:00:00Z', '2026-03-30T00:30:00Z'],
    // 02:30 twice: the first, and the second for who comes between.
    ['02:30:00', 'Europe/Berlin', '2026-10-24T22:00:00Z', '2026-10-25T00:30:00Z'],
    ['02:30:00', 'Europe/Berlin', '2026-10-25T00:30:00Z', '2026-10-25T01:30:00Z'],
    ['03:00:00', 'Europe/Berlin', '2026-10-24T22:00:00Z', '2026-10-25T02:00:00Z'],
    ['02:30:00', 'America/New_York', '2026-03-08T06:00:00Z', '2026-03-08T07:00:00Z'],
    ['02:59:59', 'America/New_York', '2026-03-08T06:00:00Z', '2026-03-08T07:00:00Z'],
    ['02:30:00', 'America/New_York', '2026-03-08T07:00:00Z', '2026-03-09T06:30:00Z'],
    ['01:30:00', 'America/New_York', '2026-11-01T04:00:00Z', '2026-11-01T05:30:00Z'],
    ['01:30:00', 'America/New_York', '2026-11-01T05:30:00Z', '2026-11-01T06:30:00Z'],
    // Half an hour: from 02:00 to 02:30, and back.
    ['02:15:00', 'Australia/Lord_Howe', '2026-10-03T15:00:00Z', '2026-10-03T15:30:00Z'],
    ['02:30:00', 'Australia/Lord_Howe', '2026-10-03T15:00:00Z', '2026-10-03T15:30:00Z'],
    ['02:15:00', 'Australia/Lord_Howe', '2026-10-03T15:30:00Z', '2026-10-04T15:15:00Z'],
    ['00:15:00', 'America/Havana', '2026-03-08T04:00:00Z', '2026-03-08T05:00:00Z'],
    ['01:45:00', 'Australia/Lord_Howe', '2026-04-04T14:00:00Z', '2026-04-04T14:45:00Z'],
    ['01:45:00', 'Australia/Lord_Howe', '2026-04-04T14:45:00Z', '2026-04-04T15:15:00Z'],
    // Clocks went back over midnight.
    ['23:30:00', 'America/St_Johns', '2010-11-07T02:15:00Z', '2010-11-07T03:00:00Z'],
    // A whole day was left out.
    ['10:00:00', 'Pacific/Apia', '2011-12-30T09:00:00Z', '2011-12-30T10:00:00Z'],
  ])('%s in %s after %s is %s', (time, zone, after, wanted) => {
    expect(isoIn('UTC', nextTimeOfDay(time, zone, Date.parse(after))).replace('+00:00', 'Z')).toBe(wanted);
  });

  test('it is ahead, shows that time (or is a jump over it), and none was passed', () => {
    const zones = ['UTC', 'Asia/Kolkata', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'America/Havana'];
    const clocks = new Map(
      zones.map((timeZone) => [timeZone, new Intl.DateTimeFormat('en-GB', { timeZone, timeStyle: 'medium' })]),
    );
    const shown = (at: number, zone: string) => clocks.get(zone)?.format(at) ?? '';
    const minute = 60_000;
    const moments = fc.integer({ min: Date.UTC(2024, 0, 1) / minute, max: Date.UTC(2028, 0, 1) / minute });
    fc.assert(
      fc.property(fc.constantFrom(...zones), moments, fc.integer({ min: 0, max: 1439 }), (zone, moment, minutes) => {
        const after = moment * minute;
        const time = new Date(minutes * minute).toISOString().slice(11, 19);
        const at = nextTimeOfDay(time, zone, after);
        expect(at).toBeGreaterThan(after);
        expect(at - after).toBeLessThanOrEqual(25 * 3_600_000);
        if (shown(at, zone) !== time) expect(shown(at - 1000, zone) < time && shown(at, zone) > time).toBe(true);
        for (let passed = after + minute; passed < at; passed += minute) expect(shown(passed, zone)).not.toBe(time);
      }),
      { numRuns: 40 },
    );
  });
});

test.each(['2026-02-29', '2026-13-01', '2026-00-10', '2026-04-31T12:00', 'today', ''])('%j is no time', (text) => {
  expect(() => readInstant(text, 'UTC')).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

describe('a time that the clocks of a zone leave out', () => {
  const gaps = [
    ['Europe/Berlin', '2026-03-29T02:30', '2026-03-29T00:00:00Z', '2026-03-29T01:00:00Z'],
    ['America/New_York', '2026-03-08T02:30', '2026-03-08T06:00:00Z', '2026-03-08T07:00:00Z'],
    ['Australia/Lord_Howe', '2026-10-04T02:15', '2026-10-03T15:00:00Z', '2026-10-03T15:30:00Z'],
  ] as const;

  test.each(gaps)('in %s %s is the jump, whoever asks', (zone, wall, before, jump) => {
    const at = Date.parse(jump);
    const time = wall.slice(11);
    expect(instantOf(zone, Date.parse(`${wall}Z`))).toBe(at);
    expect(readInstant(wall, zone)).toBe(at);
    expect(nextTimeOfDay(`${time}:00`, zone, Date.parse(before))).toBe(at);
    expect(cutOffAt(time, zone, new Date(before))).toBe(new Date(at).toISOString());
    expect(textOf(instantOfWall(microsOf(`${wall}:00.5`) as bigint, zone), 'timestamptz')).toBe(jump);
  });

  test('and one that comes twice is the first, on both sides of Greenwich', () => {
    for (const [zone, wall, first] of [
      ['Europe/Berlin', '2026-10-25T02:30:00.25', '2026-10-25T00:30:00.25Z'],
      ['America/New_York', '2026-11-01T01:30:00.25', '2026-11-01T05:30:00.25Z'],
      ['Australia/Lord_Howe', '2026-04-05T01:45:00.25', '2026-04-04T14:45:00.25Z'],
    ] as const) {
      expect(textOf(instantOfWall(microsOf(wall) as bigint, zone), 'timestamptz'), zone).toBe(first);
    }
  });
});

test('a zone of the environment is an IANA name, as everywhere', () => {
  for (const zone of ['Asia/Kolkata', 'UTC', 'Etc/GMT+5']) {
    expect(isZone(zone)).toBe(true);
    expect(readConfig({ GODWIT_TIMEZONE: zone }).timezone).toBe(zone);
  }
  for (const zone of ['+05:30', 'Mars/Olympus', 'IST+5:30', ' UTC']) {
    expect(isZone(zone)).toBe(false);
    expect(() => readConfig({ GODWIT_TIMEZONE: zone })).toThrow(/GODWIT_TIMEZONE: expected an IANA time zone/);
  }
});
