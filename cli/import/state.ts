/** Where the old tool stopped: a JSON file written by hand, or the collection it kept such things in. */
import { readFileSync } from 'node:fs';
import { GodwitError } from '../../errors.ts';

/** One table, as the API takes it (`/api/jobs/{name}/takeover`). */
export type Takeover = {
  readonly job?: string;
  readonly table: string;
  readonly target?: string;
  readonly lastRun: string;
  readonly lastKey?: string;
  readonly lastBookmark?: string;
};

const names = {
  job: ['job', 'mapping', 'mapping_name', 'job_name'],
  table: ['table', 'table_name', 'collection_name', 'collection'],
  target: ['target', 'destination', 'destination_name'],
  lastRun: ['last_run', 'last_run_time', 'last_migration_time', 'last_run_at'],
  lastKey: ['last_key', 'last_primary_key', 'last_record_migrated', 'last_id'],
  lastBookmark: ['last_bookmark', 'last_updated_at'],
} as const;

/** Throws USAGE naming the entry; never quotes a key. */
export function readEntries(entries: readonly unknown[], whole: { readonly job?: string } = {}): Takeover[] {
  return entries.map((entry, i) => {
    const at = `entry ${i + 1}`;
    if (entry === null || typeof entry !== 'object') throw wrong(`${at} is no object`);
    const given = entry as Record<string, unknown>;
    const of = (name: keyof typeof names) => {
      const key = names[name].find((one) => given[one] !== undefined && given[one] !== null);
      return key === undefined ? undefined : text(given[key]);
    };
    const table = of('table');
    const lastRun = of('lastRun');
    if (!table) throw wrong(`${at} has no \`table\``);
    if (!lastRun) throw wrong(`${at} (${table}) has no \`last_run\``);
    const [job, target, lastKey, lastBookmark] = [
      of('job') ?? whole.job,
      of('target'),
      of('lastKey'),
      of('lastBookmark'),
    ];
    return {
      table,
      lastRun,
      ...(job ? { job } : {}),
      ...(target ? { target } : {}),
      ...(lastKey === undefined ? {} : { lastKey }),
      ...(lastBookmark === undefined ? {} : { lastBookmark }),
    };
  });
}

/** Instants of a MongoDB are UTC; ObjectIds their hexadecimal digits. */
const text = (value: unknown): string => (value instanceof Date ? value.toISOString() : String(value));

const wrong = (why: string) =>
  Object.assign(new GodwitError('USAGE', `The state cannot be read: ${why}.`), {
    fix: 'See docs/import.md: [{"table": "public.orders", "last_run": "2024-02-29T12:00:00Z", "last_key": "42"}].',
  });

export function readStateFile(file: string): Takeover[] {
  let read: unknown;
  try {
    read = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw wrong(`${file}: ${(error as Error).message.split('\n')[0]}`);
  }
  if (Array.isArray(read)) return readEntries(read);
  const { tables, job } = (read ?? {}) as { tables?: unknown; job?: unknown };
  if (!Array.isArray(tables)) throw wrong(`${file} is no list, and has no list \`tables\``);
  return readEntries(tables, typeof job === 'string' ? { job } : {});
}

/** The database is the URL's. Documents of another form are left out and counted. */
export async function readStateMongo(
  url: string,
  collection: string,
): Promise<{ entries: Takeover[]; others: number }> {
  const { MongoClient } = await import('mongodb');
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 10_000 });
  try {
    const documents = await client
      .db()
      .collection(collection)
      .find({}, { projection: { _id: 0 } })
      .limit(10_000)
      .toArray();
    const known = documents.filter(
      (one) => names.table.some((key) => one[key] !== undefined) && names.lastRun.some((key) => one[key] !== undefined),
    );
    return { entries: readEntries(known), others: documents.length - known.length };
  } catch (error) {
    if (error instanceof GodwitError) throw error;
    throw new GodwitError('CONNECTION_FAILED', 'The MongoDB of the old tool does not answer, or refuses the login.', {
      cause: error,
    });
  } finally {
    await client.close();
  }
}
