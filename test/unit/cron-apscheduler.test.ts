/** Our next times are those of APScheduler 3.x itself, installed from PyPI into a temporary folder. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type FieldName, fieldNames } from '../../schedules/manual-cron.ts';
import { nextTimes, times } from '../../schedules/times.ts';
import { readTiming } from '../../schedules/timing.ts';
import { changesOf, wallClock } from '../../schedules/zone.ts';

const python = spawnSync('python3', ['--version']).status === 0;
if (!python) console.warn('skipped: no python3, so no APScheduler to compare with');

let folder = '';
beforeAll(async () => {
  if (!python) return;
  folder = await mkdtemp(join(tmpdir(), 'godwit-apscheduler-'));
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', folder];
  const { status, stderr } = spawnSync('python3', [...pip, 'apscheduler>=3.10,<4', 'tzdata'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`APScheduler cannot be installed: ${stderr}`);
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

type Question = {
  readonly fields: Partial<Record<FieldName, string>>;
  readonly zone: string;
  readonly after: number;
  readonly count: number;
};
type Answer = { readonly times?: readonly number[]; readonly refused?: string };

function ask(questions: readonly Question[]): Answer[] {
  const { status, stdout, stderr } = spawnSync('python3', [join(import.meta.dirname, 'cron_times.py')], {
    input: JSON.stringify(questions),
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, PYTHONPATH: folder },
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Answer[];
}

const hour = 3600;
const end = Date.UTC(2100, 0, 1) / 1000;
const expressionOf = ({ fields }: Question) => fieldNames.map((name) => fields[name] ?? '?').join(' ');

function oursOf({ zone, after, count, ...rest }: Question): number[] {
  const expression = expressionOf({ zone, after, count, ...rest });
  const timing = readTiming({ kind: 'cron', expression, timezone: zone });
  return nextTimes(timing, after * 1000, count)
    .map((at) => at.getTime() / 1000)
    .filter((at) => at <= end);
}

/**
 * Where APScheduler may differ. Cases: 1 within a change of the clocks: it moves what stands in a gap behind it; 2 where it
 * walks day by day over a gap it comes to the next day late by its length, and loses what stands in that day's first hour.
 */
function explained(zone: string, at: number, onlyOurs: boolean): boolean {
  const year = new Date(at * 1000).getUTCFullYear();
  const changes = [year - 1, year, year + 1].flatMap((one) => changesOf(zone, one));
  const near = changes.some((change) => Math.abs(change.at / 1000 - at) <= 3 * hour);
  const dayAfter = changes.some((change) => at > change.at / 1000 && at - change.at / 1000 < 25 * hour);
  const firstHour = (wallClock(zone, at * 1000) / 1000) % 86_400 < hour;
  return near || (dayAfter && firstHour && onlyOurs);
}

/** A small generator with a seed: the same questions each time. */
function random(seed: number) {
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const int = (from: number, to: number) => from + Math.floor(next() * (to - from + 1));
  const pick = <T>(list: readonly T[]): T => list[int(0, list.length - 1)] as T;
  return { int, pick, chance: (p: number) => next() < p };
}
type Random = ReturnType<typeof random>;

const limits: Readonly<Record<FieldName, readonly [number, number]>> = {
  year: [2026, 2031],
  month: [1, 12],
  day: [1, 28],
  week: [1, 53],
  day_of_week: [0, 6],
  hour: [0, 23],
  minute: [0, 59],
  second: [0, 59],
};
const words: Partial<Record<FieldName, readonly string[]>> = {
  month: ['jan', 'FEB', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
  day_of_week: ['mon', 'tue', 'Wed', 'thu', 'fri', 'sat', 'sun'],
};

function part(name: FieldName, { int, pick }: Random): string {
  const [least, most] = limits[name];
  const a = int(least, most);
  const b = int(a, most);
  const names = words[name];
  const forms = [() => String(a), () => `${a}-${b}`, () => `*/${int(1, Math.max(1, Math.floor((most - least) / 2)))}`];
  if (b - a >= 2) forms.push(() => `${a}-${b}/${int(1, b - a)}`);
  if (most - a >= 2) forms.push(() => `${a}/${int(1, most - a)}`);
  if (names)
    forms.push(
      () => names[a - least] as string,
      () => `${names[a - least]}-${names[b - least]}`,
    );
  if (name === 'day') {
    const day = () => pick(words.day_of_week ?? []);
    forms.push(
      () => 'last',
      () => `last ${day()}`,
      () => `${pick(['1st', '2nd', '3rd', '4th', '5th'])} ${day()}`,
      () => `1st ${day()},3rd ${day()}`,
      () => `${int(29, 31)}`,
    );
  }
  return pick(forms)();
}

function question(r: Random, zones: readonly string[]): Question {
  const fields: Partial<Record<FieldName, string>> = {};
  const field = (name: FieldName) => {
    const list = r.chance(0.25) ? `${part(name, r)},${part(name, r)}` : part(name, r);
    fields[name] = list;
  };
  // One or two of the days' fields: all of them together hardly ever hold.
  for (const name of r.pick([['day'], ['week'], ['day_of_week'], ['day', 'day_of_week'], ['week', 'day_of_week'], []]))
    field(name as FieldName);
  if (r.chance(0.1)) field('year');
  if (r.chance(0.3)) field('month');
  if (r.chance(0.75)) field('hour');
  if (r.chance(0.6)) field('minute');
  if (r.chance(0.4)) field('second');
  if (Object.keys(fields).length === 0) field('hour');
  for (const name of fieldNames) if (fields[name] === undefined && r.chance(0.2)) fields[name] = '*';
  const after = r.int(Date.UTC(2026, 0, 1) / 1000, Date.UTC(2027, 11, 31) / 1000);
  return { fields, zone: r.pick(zones), after, count: 20 };
}

/** Of both, up to where both have answered. */
function differences(ours: readonly number[], theirs: readonly number[], count: number): number[] {
  const until = Math.min(
    ours.length < count ? Number.POSITIVE_INFINITY : (ours.at(-1) as number),
    theirs.length < count ? Number.POSITIVE_INFINITY : (theirs.at(-1) as number),
  );
  const [a, b] = [new Set(ours), new Set(theirs)];
  return [...ours.filter((at) => !b.has(at)), ...theirs.filter((at) => !a.has(at))].filter((at) => at <= until);
}

describe.skipIf(!python)('next times as APScheduler has them', () => {
  test('of 150 generated expressions in zones without a change of clocks: the same 20 each', () => {
    const r = random(5);
    const questions = Array.from({ length: 150 }, () => question(r, ['Asia/Kolkata', 'UTC']));
    const answers = ask(questions);
    const wrong = questions.flatMap((one, i) => {
      const ours = oursOf(one);
      const theirs = answers[i]?.times;
      return JSON.stringify(ours) === JSON.stringify(theirs) ? [] : [{ ...one, ours, theirs, ...answers[i] }];
    });
    expect(wrong).toEqual([]);
    expect(answers.filter(({ times: all }) => all?.length === 20).length).toBeGreaterThan(120);
  });

  test('of 150 in zones with one: the same but for times within a change of the clocks, where Temporal has its own rule', () => {
    const r = random(7);
    const zones = ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe'];
    const questions = Array.from({ length: 150 }, () => question(r, zones));
    const answers = ask(questions);
    let equal = 0;
    const wrong = questions.flatMap((one, i) => {
      const ours = oursOf(one);
      const theirs = answers[i]?.times;
      if (!theirs) return [{ ...one, ...answers[i] }];
      const different = differences(ours, theirs, one.count);
      if (different.length === 0) equal++;
      const far = different.filter((at) => !explained(one.zone, at, ours.includes(at)));
      return far.length === 0 ? [] : [{ ...one, far }];
    });
    expect(wrong).toEqual([]);
    expect(equal).toBeGreaterThan(120);
  });

  test('what it refuses is refused here, too', () => {
    const bad: Question['fields'][] = [
      { hour: '24' },
      { minute: '*/60' },
      { minute: '*/0' },
      { day: '0' },
      { day: '5-3' },
      { day: '6th mon' },
      { day: '1st foo' },
      { day_of_week: 'sat-mon' },
      { day_of_week: '7' },
      { month: 'foo' },
      { week: '54' },
      { hour: '5-5/1' },
      { year: '1969' },
      { second: 'x' },
    ];
    const questions = bad.map((fields) => ({ fields, zone: 'UTC', after: 1_800_000_000, count: 1 }));
    expect(ask(questions).map(({ refused }) => refused === undefined)).toEqual(bad.map(() => false));
    for (const one of questions) expect(() => oursOf(one), expressionOf(one)).toThrow(/field/);
  });

  test('in a gap and in a repeated hour: what APScheduler does, and what Temporal and so Godwit do', () => {
    // New York 2027: 02:00 becomes 03:00 on 14 March, 02:00 becomes 01:00 on 7 November.
    const at = (text: string) => Date.parse(text) / 1000;
    const gap = {
      fields: { hour: '2', minute: '30' },
      zone: 'America/New_York',
      after: at('2027-03-13T12:00:00Z'),
      count: 2,
    };
    const fold = {
      fields: { hour: '1', minute: '30' },
      zone: 'America/New_York',
      after: at('2027-11-06T12:00:00Z'),
      count: 3,
    };
    const [inGap, inFold] = ask([gap, fold]);
    expect(oursOf(gap)).toEqual([at('2027-03-15T06:30:00Z'), at('2027-03-16T06:30:00Z')]);
    expect(inGap?.times?.[0]).toBe(at('2027-03-14T07:30:00Z'));
    expect(oursOf(fold)).toEqual(['2027-11-07T05:30:00Z', '2027-11-07T06:30:00Z', '2027-11-08T06:30:00Z'].map(at));
    expect(inFold?.times?.slice(0, 2)).toEqual(['2027-11-07T05:30:00Z', '2027-11-07T06:30:00Z'].map(at));
  });

  test("the manual's own example: every minute from 7 to 19", () => {
    const fields = Object.fromEntries(fieldNames.map((name, i) => [name, '* * * * * 7-19 */1 0'.split(' ')[i]]));
    const one = { fields, zone: 'Asia/Kolkata', after: 1_800_000_000, count: 2000 } as Question;
    expect(oursOf(one)).toEqual(ask([one])[0]?.times);
  });

  test('five fields: as two of its triggers where day and weekday are both given', () => {
    const timing = readTiming({ kind: 'cron', expression: '15 6 1,15 * fri', timezone: 'Asia/Kolkata' });
    const after = 1_800_000_000;
    const common = { hour: '6', minute: '15', second: '0' };
    const both = [
      { ...common, day: '1,15' },
      { ...common, day_of_week: 'fri' },
    ];
    const theirs = ask(both.map((fields) => ({ fields, zone: 'Asia/Kolkata', after, count: 60 })));
    const merged = [...new Set(theirs.flatMap((one) => one.times ?? []))].sort((a, b) => a - b).slice(0, 60);
    expect(nextTimes(timing, after * 1000, 60).map((one) => one.getTime() / 1000)).toEqual(merged);
  });
});

test('times never go back and never repeat', () => {
  const r = random(11);
  for (let i = 0; i < 200; i++) {
    const one = question(r, ['America/New_York', 'Australia/Lord_Howe', 'Africa/Casablanca', 'UTC']);
    const timing = readTiming({ kind: 'cron', expression: expressionOf(one), timezone: one.zone });
    let before = one.after * 1000 - 1;
    let seen = 0;
    for (const at of times(timing, one.after * 1000)) {
      expect(at).toBeGreaterThan(before);
      before = at;
      if (++seen > 100 || at > Date.UTC(2040, 0, 1)) break;
    }
  }
});
