import { describe, expect, it, test } from 'vitest';
import { parseMapping } from '../../mapping/parse.ts';
import { blackoutAt, openTimes } from '../../schedules/blackouts.ts';
import { parseCron } from '../../schedules/cron.ts';
import { isoWeek } from '../../schedules/dates.ts';
import { daylightWarnings } from '../../schedules/daylight.ts';
import { parseInterval } from '../../schedules/interval.ts';
import { ranges, specOf } from '../../schedules/spec.ts';
import { nextTimes } from '../../schedules/times.ts';
import { kindOf, readTiming } from '../../schedules/timing.ts';
import { isoIn, readInstant } from '../../schedules/zone.ts';

const timingOf = (expression: string, timezone = 'UTC') =>
  readTiming({ kind: kindOf(expression), expression, timezone });
const next = (expression: string, { zone = 'UTC', after = '2027-01-01', count = 3 } = {}) =>
  nextTimes(timingOf(expression, zone), readInstant(after, zone), count).map((at) => isoIn(zone, at.getTime()));

describe('an expression', () => {
  it.each<[string, string[]]>([
    ['* * * * * 7-19 */1 0', ['2027-01-01T07:00:00+00:00', '2027-01-01T07:01:00+00:00', '2027-01-01T07:02:00+00:00']],
    ['? ? ? ? mon 3 ? ?', ['2027-01-04T03:00:00+00:00', '2027-01-11T03:00:00+00:00', '2027-01-18T03:00:00+00:00']],
    [
      '* * last fri * * 22 0 0',
      ['2027-01-29T22:00:00+00:00', '2027-02-26T22:00:00+00:00', '2027-03-26T22:00:00+00:00'],
    ],
    [
      '* * 1st mon, 3rd mon * * 0 0 0',
      ['2027-01-04T00:00:00+00:00', '2027-01-18T00:00:00+00:00', '2027-02-01T00:00:00+00:00'],
    ],
    ['* * 5th_sun * * 0 0 0', ['2027-01-31T00:00:00+00:00', '2027-05-30T00:00:00+00:00', '2027-08-29T00:00:00+00:00']],
    ['* * last * * 0 0 0', ['2027-01-31T00:00:00+00:00', '2027-02-28T00:00:00+00:00', '2027-03-31T00:00:00+00:00']],
    ['* * * 53 mon 0 0 0', ['2032-12-27T00:00:00+00:00', '2037-12-28T00:00:00+00:00', '2043-12-28T00:00:00+00:00']],
    [
      'day_of_week=mon-fri hour=7',
      ['2027-01-01T07:00:00+00:00', '2027-01-04T07:00:00+00:00', '2027-01-05T07:00:00+00:00'],
    ],
    ['30 3 * * *', ['2027-01-01T03:30:00+00:00', '2027-01-02T03:30:00+00:00', '2027-01-03T03:30:00+00:00']],
    ['0 0 13 * 5', ['2027-01-01T00:00:00+00:00', '2027-01-08T00:00:00+00:00', '2027-01-13T00:00:00+00:00']],
    ['0 0 */2 * 7', ['2027-01-03T00:00:00+00:00', '2027-01-17T00:00:00+00:00', '2027-01-31T00:00:00+00:00']],
    ['0 12 * jan sun,Mon', ['2027-01-03T12:00:00+00:00', '2027-01-04T12:00:00+00:00', '2027-01-10T12:00:00+00:00']],
    ['0 12 * * fri-sun', ['2027-01-01T12:00:00+00:00', '2027-01-02T12:00:00+00:00', '2027-01-03T12:00:00+00:00']],
    ['@weekly', ['2027-01-03T00:00:00+00:00', '2027-01-10T00:00:00+00:00', '2027-01-17T00:00:00+00:00']],
    ['90m', ['2027-01-01T00:00:00+00:00', '2027-01-01T01:30:00+00:00', '2027-01-01T03:00:00+00:00']],
    ['1 day', ['2027-01-01T00:00:00+00:00', '2027-01-02T00:00:00+00:00', '2027-01-03T00:00:00+00:00']],
    ['2026 * * * * * * *', []],
    ['* 2 30 * * 0 0 0', []],
  ])('%s has these times', (expression, times) => {
    expect(next(expression)).toEqual(times);
  });

  it.each<[string, RegExp]>([
    ['', /empty/],
    ['* * * *', /has 4 fields/],
    ['* * * * * *', /has 6 fields.*five of a crontab.*eight/],
    ['60 * * * *', /minute has "60": expected 0 to 59/],
    ['* * * * 8', /day_of_week has "8"/],
    ['* * * * mon/0', /a step is at least 1/],
    ['5-3 * * * *', /runs backwards/],
    ['? ? ? ? ? ? ? ?', /gives no field/],
    ['hour=3 hour=4', /given twice/],
    ['hours=3', /is no field/],
    ['@reboot', /none of @yearly/],
    ['0s', /at least a second/],
    ['1.5s', /whole ones/],
    ['5 parsecs', /is no interval/],
  ])('%s is refused', (expression, why) => {
    expect(() => timingOf(expression)).toThrow(why);
    expect(() => timingOf(expression)).toThrow(expect.objectContaining({ code: 'SCHEDULE_INVALID' }));
  });

  it('may begin at the moment it is asked from, and takes seconds up', () => {
    expect(next('* * * * * 7 0 0', { after: '2027-01-01T07:00:00Z', count: 1 })).toEqual(['2027-01-01T07:00:00+00:00']);
    const after = Date.parse('2027-01-01T07:00:00.001Z');
    expect(nextTimes(timingOf('* * * * * 7 0 0'), after, 1)).toEqual([new Date('2027-01-02T07:00:00Z')]);
  });
});

describe('a change of the clocks', () => {
  it('leaves out what stands in the gap, and repeats what stands in the hour that comes twice', () => {
    const zone = 'Europe/Berlin';
    expect(next('30 2 * * *', { zone, after: '2027-03-27' })).toEqual([
      '2027-03-27T02:30:00+01:00',
      '2027-03-29T02:30:00+02:00',
      '2027-03-30T02:30:00+02:00',
    ]);
    expect(next('30 2 31 10 *', { zone, after: '2027-01-01' })).toEqual([
      '2027-10-31T02:30:00+02:00',
      '2027-10-31T02:30:00+01:00',
      '2028-10-31T02:30:00+01:00',
    ]);
    expect(next('2027 10 31 * * 2 30 0', { zone })).toEqual(['2027-10-31T02:30:00+02:00', '2027-10-31T02:30:00+01:00']);
  });

  it('of half an hour is one too', () => {
    const zone = 'Australia/Lord_Howe';
    expect(next('45 1 * * *', { zone, after: '2027-04-04', count: 2 })).toEqual([
      '2027-04-04T01:45:00+11:00',
      '2027-04-04T01:45:00+10:30',
    ]);
    expect(next('15 2 * * *', { zone, after: '2027-10-03', count: 1 })).toEqual(['2027-10-04T02:15:00+11:00']);
  });

  it('is warned of for a year ahead', () => {
    const from = Date.parse('2027-01-01T00:00:00Z');
    expect(daylightWarnings(timingOf('30 2 * * *', 'Europe/Berlin'), from)).toEqual([
      'The clocks of Europe/Berlin are put forward on 2027-03-28: 02:30:00 does not come, and that run is left out.',
      'The clocks of Europe/Berlin are put back on 2027-10-31: 02:30:00 comes twice, and Temporal starts that run at the second (of several in that hour it leaves some out).',
    ]);
    expect(daylightWarnings(timingOf('30 4 * * *', 'Europe/Berlin'), from)).toEqual([]);
    expect(daylightWarnings(timingOf('30 2 * * mon', 'Europe/Berlin'), from)).toEqual([]);
    expect(daylightWarnings(timingOf('*/5 * * * *', 'Europe/Berlin'), from)).toEqual([]);
    expect(daylightWarnings(timingOf('30 2 * * *', 'Asia/Kolkata'), from)).toEqual([]);
  });
});

describe('for Temporal', () => {
  const from = Date.parse('2026-11-21T12:00:00Z');

  it('a plain expression is one calendar, days and weekdays together', () => {
    expect(specOf(timingOf('* 1-3 1,15 * mon-wed 7-19/2 */15 0', 'Asia/Kolkata'), from)).toEqual({
      timezone: 'Asia/Kolkata',
      calendars: [
        {
          month: ['JANUARY', 'FEBRUARY', 'MARCH'],
          dayOfMonth: [
            { start: 1, end: 1, step: 1 },
            { start: 15, end: 15, step: 1 },
          ],
          dayOfWeek: ['MONDAY', 'TUESDAY', 'WEDNESDAY'],
          hour: [{ start: 7, end: 19, step: 2 }],
          minute: [{ start: 0, end: 45, step: 15 }],
          second: [{ start: 0, end: 0, step: 1 }],
        },
      ],
    });
  });

  it('a day or a weekday of a crontab is two', () => {
    expect(specOf(timingOf('0 0 13 * 5'), from).calendars).toHaveLength(2);
  });

  it('weeks, last and 3rd mon are dated for three years', () => {
    for (const expression of ['* * * */2 * 3 0 0', '* * last * * 3 0 0', '* * 3rd mon * * 3 0 0']) {
      const { calendars, until } = specOf(timingOf(expression), from);
      expect(new Date(until ?? 0).toISOString()).toBe('2029-11-01T00:00:00.000Z');
      expect(calendars?.length).toBeGreaterThan(36);
      expect(calendars?.every(({ year }) => year?.length === 1)).toBe(true);
    }
  });

  it('an interval is one', () => {
    expect(specOf(timingOf('2h'), from)).toEqual({ timezone: 'UTC', intervals: [{ every: 7_200_000 }] });
  });

  it('years it does not know are refused', () => {
    expect(() => specOf(timingOf('2150 * * * * * * *'), from)).toThrow(/2000 to 2100/);
  });

  test('ranges are as short as they can be', () => {
    expect(ranges([0, 5, 10, 15])).toEqual([{ start: 0, end: 15, step: 5 }]);
    expect(ranges([1, 2, 3, 7, 20])).toEqual([
      { start: 1, end: 3, step: 1 },
      { start: 7, end: 7, step: 1 },
      { start: 20, end: 20, step: 1 },
    ]);
    expect(ranges([4])).toEqual([{ start: 4, end: 4, step: 1 }]);
  });
});

test('weeks are those of ISO 8601', () => {
  expect([isoWeek(2027, 1, 1), isoWeek(2026, 12, 28), isoWeek(2027, 1, 4), isoWeek(2024, 12, 30)]).toEqual([
    53, 53, 1, 1,
  ]);
});

test('intervals', () => {
  expect(['15m', '2h', '1h 30m', '45 s', '1w', '2 days'].map(parseInterval)).toEqual([
    900, 7200, 5400, 45, 604_800, 172_800,
  ]);
});

test('blackout windows, also over midnight and on days of their own', () => {
  const night = [{ from: '22:00', to: '06:00', days: [4] }];
  const at = (text: string) => blackoutAt(night, 'Asia/Kolkata', Date.parse(text)) !== undefined;
  // 2027-01-01 is a Friday.
  expect(at('2027-01-01T22:00:00+05:30')).toBe(true);
  expect(at('2027-01-02T05:59:59+05:30')).toBe(true);
  expect(at('2027-01-02T06:00:00+05:30')).toBe(false);
  expect(at('2027-01-01T05:00:00+05:30')).toBe(false);
  expect(at('2027-01-02T23:00:00+05:30')).toBe(false);
});

test('the next times are those outside of blackout windows, however many stand inside', () => {
  const timing = timingOf('* * * * * * * *', 'Asia/Kolkata');
  const from = Date.parse('2027-01-01T08:00:00+05:30');
  const day = [{ from: '08:00', to: '18:00' }];
  expect(openTimes(timing, day, from, 2)).toEqual([
    new Date('2027-01-01T18:00:00+05:30'),
    new Date('2027-01-01T18:00:01+05:30'),
  ]);
  const always = [
    { from: '00:00', to: '12:00' },
    { from: '12:00', to: '00:00' },
  ];
  expect(openTimes(timing, always, from, 1)).toEqual([]);
  const weekday = [{ from: '00:00', to: '23:59:59', days: [0, 1, 2, 3, 4] }];
  expect(openTimes(timingOf('0 3 * * *'), weekday, from, 2)).toEqual([
    new Date('2027-01-02T03:00:00Z'),
    new Date('2027-01-03T03:00:00Z'),
  ]);
});

describe('in a mapping', () => {
  const mapping = (extra: object, ...tables: object[]) => ({
    name: 'shop',
    source: { source_type: 'pgsql', url: 'postgresql://reader@db/shop' },
    destination: { wh: { destination_type: 'pgsql', url: 'postgresql://writer@db/wh', schema: 's' } },
    tables: tables.map((table, i) => ({ table_name: `t${i}`, mode: 'replace', ...table })),
    ...extra,
  });
  const parse = (extra: object, ...tables: object[]) => parseMapping(mapping(extra, ...tables)).document;
  const defaults = { overlap: 'skip', catchUp: 3600, jitter: 0, blackouts: [] };

  it('one cron of all tables is the schedule main, wherever it stands', () => {
    const cron = '* * * * * 7-19 */1 0';
    const wanted = { main: { kind: 'cron', expression: cron, options: defaults } };
    expect(parse({ cron }, {}, {}).schedules).toEqual(wanted);
    expect(parse({}, { cron }, { cron }).schedules).toEqual(wanted);
    expect(parse({ cron }, {}, {}).tables.map(({ schedule }) => schedule)).toEqual(['main', 'main']);
  });

  it('tables with other ones have schedules of their own, self-managed ones none', () => {
    const document = parse(
      { cron: '0 1 * * *' },
      {},
      { cron: '0 2 * * *' },
      { interval: { hours: 2 } },
      { cron: 'self-managed' },
    );
    const [main, second, third, none] = document.tables.map(({ schedule }) => schedule);
    expect([main, none]).toEqual(['main', undefined]);
    expect(second).toMatch(/^cron-[0-9a-f]{8}$/);
    expect(third).toMatch(/^cron-[0-9a-f]{8}$/);
    expect(Object.keys(document.schedules ?? {})).toEqual([main, second, third]);
    expect(document.schedules?.[third ?? '']).toMatchObject({ kind: 'interval', expression: '2h' });
    const alone = parse({}, { cron: '0 1 * * *' }, { cron: '0 2 * * *' }).tables.map(({ schedule }) => schedule);
    expect(alone.every((key) => key?.startsWith('cron-'))).toBe(true);
    // The key follows the expression, not the table's place.
    expect(parse({ cron: '0 1 * * *' }, { cron: '0 2 * * *' }, {}).tables[0]?.schedule).toBe(second);
  });

  it('nothing and self-managed are no schedule', () => {
    expect(parse({}, {}).schedules).toBeUndefined();
    expect(parse({ cron: 'self-managed' }, {}, {}).schedules).toBeUndefined();
  });

  it('fields may be a map, and options say the rest', () => {
    const schedule = {
      overlap: 'buffer one',
      catch_up: '30m',
      jitter: 20,
      blackouts: [
        { from: '08:00', to: '18:00', days: 'mon-fri' },
        { from: '23:00', to: '01:00' },
      ],
    };
    const document = parse({ cron: { day: 'last fri', hour: 22 }, timezone: 'Asia/Kolkata', schedule }, {});
    expect(document.timezone).toBe('Asia/Kolkata');
    expect(document.schedules).toEqual({
      main: {
        kind: 'cron',
        expression: '* * last_fri * * 22 0 0',
        options: {
          overlap: 'buffer one',
          catchUp: 1800,
          jitter: 20,
          blackouts: [
            { from: '08:00', to: '18:00', days: [0, 1, 2, 3, 4] },
            { from: '23:00', to: '01:00' },
          ],
        },
      },
    });
  });

  it('what will surprise is told', () => {
    const { warnings } = parseMapping(
      mapping({ cron: '30 2 * * *', timezone: 'Europe/Berlin' }, {}, { cron: '2020 * * * * * * *' }),
    );
    expect(warnings).toEqual([
      expect.stringMatching(/^Schedule main \(30 2 \* \* \*\): The clocks of Europe\/Berlin are put/),
      expect.stringMatching(/^Schedule main/),
      expect.stringMatching(/^Schedule cron-[0-9a-f]{8} .* has no time to come/),
    ]);
  });

  it.each<[object, object, RegExp]>([
    [{ cron: '* * * * * 25 0 0' }, {}, /^cron: The field hour has "25": the most is 23/],
    [{}, { cron: '61 * * * *' }, /^tables\[0\]\.cron: The field minute/],
    [{ cron: '* * * * *', interval: '2h' }, {}, /^interval: not beside `cron`/],
    [{ interval: '2x' }, {}, /^interval: "2x" is no interval/],
    [{ interval: { hour: 2 } }, {}, /interval/],
    [{ cron: '0 1 * * *', timezone: 'Asia/Kolkatta' }, {}, /^timezone: expected an IANA time zone/],
    [{ cron: '0 1 * * *', timezone: '+05:30' }, {}, /^timezone: expected an IANA time zone/],
    [{ cron: '0 1 * * *', schedule: { overlap: 'allow all' } }, {}, /^schedule\.overlap: /],
    [{ cron: '0 1 * * *', schedule: { catch_up: '1s' } }, {}, /^schedule\.catch_up: at least 10 seconds/],
    [{ cron: '0 1 * * *', schedule: { jiter: 1 } }, {}, /schedule\.jiter: unknown key "jiter"/],
    [
      { cron: '0 1 * * *', schedule: { blackouts: [{ from: '8', to: '9:00' }] } },
      {},
      /blackouts\[0\]\.from: expected a time/,
    ],
    [{ schedule: { jitter: 1 } }, {}, /^schedule: is for jobs with `cron` or `interval`/],
    [{ cron: '2150 * * * * * * *' }, {}, /^cron: A schedule's years are 2000 to 2100/],
  ])('%j %j is refused', (top, table, why) => {
    expect(() => parse(top, table)).toThrow(why);
  });
});

test('an expression of any kind is read in reasonable time', () => {
  expect(parseCron('* 2 29 * mon 0 0 0').months).toEqual([2]);
  expect(next('* 2 29 * mon 0 0 0', { count: 2 })).toEqual(['2044-02-29T00:00:00+00:00', '2072-02-29T00:00:00+00:00']);
});
