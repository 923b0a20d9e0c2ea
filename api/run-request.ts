/** What a start asks for beside its job: checked against the job's document before anything is stored. */
import { z } from '@hono/zod-openapi';
import type { Predicate } from '../connectors/contract.ts';
import type { RunBounds, RunRequest } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { JobDocument, TableEntry } from '../mapping/document.ts';
import { timeOfDay } from '../mapping/settings.ts';
import { dayMs } from '../schedules/dates.ts';
import { nextTimeOfDay, readInstant, writtenInstant } from '../schedules/zone.ts';
import { strict } from './problem.ts';

const scalar = z.union([z.string(), z.number(), z.boolean()]);
export const predicateSchema = z
  .strictObject({
    column: z.string().min(1),
    op: z.enum(['=', 'in', '<', '<=', '>', '>=', 'is null', 'is not null']),
    values: z.array(scalar).max(10_000).default([]),
  })
  .openapi('Predicate');

export const runRequestSchema = strict({
  tables: z
    .array(z.string().min(1).max(300))
    .min(1)
    .max(1000)
    .optional()
    .describe('Only these: `schema.table`, `table` in the default schema, or an entry of the mapping as it is written'),
  full: z.boolean().optional().describe('Incremental tables are loaded anew and swapped in'),
  from: z
    .string()
    .min(1)
    .max(1000)
    .optional()
    .describe('A backfill: rows from this bookmark or key on. A date and time without a zone is in the job’s'),
  to: z.string().min(1).max(1000).optional().describe('… to this one, inclusive; a date is its whole day'),
  where: z.array(predicateSchema).min(1).max(20).optional().describe('A backfill: rows for which all of these hold'),
  cutOff: z
    .string()
    .min(1)
    .max(40)
    .optional()
    .describe('Instead of the job’s: a time of day in its zone (`18:30`), an instant (ISO 8601), or `none`'),
});
export type WantedRun = z.infer<typeof runRequestSchema>;

/** Throws USAGE, TABLE_MISSING, MODE_REFUSED. Never quotes an end or a value: they are key values. */
export function requestOf(
  document: JobDocument,
  wanted: WantedRun,
  { timezone, now = new Date() }: { readonly timezone: string; readonly now?: Date },
): { readonly request?: RunRequest; readonly bounds?: RunBounds } {
  const { tables, full, from, to, where, cutOff } = wanted;
  const entries = tables ? entriesOf(document, tables) : document.tables;
  const backfill = from !== undefined || to !== undefined || where !== undefined;
  if (backfill) refuseBackfill(document, wanted, { entries, timezone: document.timezone ?? timezone });
  const bounds: RunBounds | undefined = backfill
    ? {
        ...(from === undefined ? {} : { from }),
        ...(to === undefined ? {} : { upto: to }),
        ...(where === undefined ? {} : { where: where as Predicate[] }),
      }
    : undefined;
  const request: RunRequest = {
    ...(tables ? { tables } : {}),
    ...(full ? { full } : {}),
    ...(backfill ? { backfill } : {}),
    ...(cutOff === undefined ? {} : { cutOffAt: cutOffAt(cutOff, document.timezone ?? timezone, now) }),
  };
  return { ...(Object.keys(request).length > 0 ? { request } : {}), ...(bounds ? { bounds } : {}) };
}

type Meant = { readonly entries: readonly TableEntry[]; readonly timezone: string };

function refuseBackfill(document: JobDocument, wanted: WantedRun, { entries, timezone }: Meant) {
  const { tables, full, from, to, where } = wanted;
  if (full) throw usage('`full` loads everything again; give it, or `from`, `to` and `where`');
  if (where && (from !== undefined || to !== undefined))
    throw usage('give a range (`from`, `to`) or `where`, not both');
  if (!tables && document.tables.length > 1) {
    throw usage('a range is of one table’s bookmark or key: name the table with `tables` (--table)');
  }
  for (const one of where ?? []) {
    const none = one.op === 'is null' || one.op === 'is not null';
    if (none ? one.values.length > 0 : one.values.length === 0 || (one.op !== 'in' && one.values.length > 1)) {
      throw usage(`where: \`${one.op}\` on ${one.column} has the wrong number of values`);
    }
  }
  const idle = entries.find(({ mode }) => mode === 'replace' || mode === 'dumping');
  if (idle) {
    const why = `mode ${idle.mode} always moves the whole table; a part of it is for logging, syncing and mirroring`;
    throw new GodwitError('MODE_REFUSED', `${idle.name}: ${why}.`, { table: idle.name });
  }
  const dated = entries.every(({ mode }) => mode !== 'logging');
  for (const [name, text] of [
    ['from', from],
    ['to', to],
  ] as const) {
    if (dated && text !== undefined && !writtenInstant(text)) {
      throw usage(`\`${name}\` is no date and time such as 2024-02-29 or 2024-02-29T12:00:00 (a bookmark is one)`);
    }
  }
  if (!dated || from === undefined || to === undefined) return;
  // A date is its whole day.
  const last = readInstant(to, timezone) + (to.trim().length === 10 ? dayMs : 0);
  if (readInstant(from, timezone) > last) throw usage('`from` is after `to`: there is nothing between them');
}

const usage = (message: string) => new GodwitError('USAGE', `${message}.`);

/** The mapping's entries that the names may mean; the plan, which knows the source, has the last word. */
function entriesOf({ tables }: JobDocument, names: readonly string[]): TableEntry[] {
  const missing = names.find((name) => !tables.some((entry) => mayMean(entry, name)));
  if (missing !== undefined) {
    const some = tables.slice(0, 5).map((entry) => entry.name);
    const known = `${some.join(', ')}${tables.length > some.length ? ', …' : ''}`;
    throw new GodwitError('TABLE_MISSING', `The job has no table "${missing}"; it has ${known}.`, { table: missing });
  }
  return tables.filter((entry) => names.some((name) => mayMean(entry, name)));
}

/** `orders` may be `public.orders`, and the other way round: which schema is the default one only the source knows. */
function mayMean({ name: written }: TableEntry, name: string): boolean {
  if (like(written, name)) return true;
  const short = (text: string) => text.slice(text.indexOf('.') + 1);
  if (!name.includes('.')) return like(short(written), name);
  return !written.includes('.') && like(written, short(name));
}

const like = (pattern: string, name: string): boolean => {
  const text = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${text.replaceAll('*', '.*').replaceAll('?', '.')}$`, 'su').test(name);
};

/** ISO, or null for none. A time of day is the next one. */
export function cutOffAt(text: string, zone: string, now: Date): string | null {
  if (text === 'none') return null;
  const time = timeOfDay.safeParse(text.trim());
  if (time.success) return new Date(nextTimeOfDay(time.data, zone, now.getTime())).toISOString();
  const at = /^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:?\d\d)$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw usage('`cutOff` is a time of day such as 18:30, an instant with its zone, or `none`');
  if (at <= now.getTime()) throw usage('`cutOff` is over already');
  return new Date(at).toISOString();
}
