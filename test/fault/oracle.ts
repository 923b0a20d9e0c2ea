import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { digest, keyText, type ShopTable, shop } from './shop.ts';

/** Key → hash of its row; a table without a key has one entry per distinct row, with how many there are. */
export type Content = ReadonlyMap<string, { readonly hash: string; readonly times: number }>;
export type Difference = { readonly lost: number; readonly doubled: number; readonly changed: number };

export const nothing: Difference = { lost: 0, doubled: 0, changed: 0 };
export const plus = (a: Difference, b: Difference): Difference => ({
  lost: a.lost + b.lost,
  doubled: a.doubled + b.doubled,
  changed: a.changed + b.changed,
});

export async function query<Row = Record<string, unknown>>(
  url: string,
  sql: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(sql, values)).rows as Row[];
  } finally {
    await client.end().catch(() => {});
  }
}

const looking = new Map<string, Promise<pg.Client>>();

/**
 * What is asked again and again, dozens of times a second: over one connection, since a login costs more than the answer.
 * When the server was away meanwhile another connection is tried, once.
 */
export async function look<Row = Record<string, unknown>>(
  url: string,
  sql: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const kept = looking.get(url);
  const one = kept ?? connected(url);
  looking.set(url, one);
  try {
    return (await (await one).query(sql, values)).rows as Row[];
  } catch (error) {
    if (looking.get(url) === one) looking.delete(url);
    one.then((client) => client.end()).catch(() => {});
    if (kept) return await look<Row>(url, sql, values);
    throw error;
  }
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  await client.connect();
  return client;
}

type Pair = { key: string; hash: string };
const pairs = (table: ShopTable, place: string) =>
  `SELECT ${keyText(table)} AS key, ${digest(table)} AS hash FROM ${place}.${table.name}`;

/** A key that is there twice shows as `times` 2 (with either row's hash: it is wrong anyway). */
export function contentOf(rows: readonly Pair[], keyed: boolean): Content {
  const content = new Map<string, { hash: string; times: number }>();
  for (const { key, hash } of rows) {
    const name = keyed ? key : hash;
    const there = content.get(name);
    if (there) there.times++;
    else content.set(name, { hash, times: 1 });
  }
  return content;
}

/** Exact comparison: consistency `snapshot`. */
export function compareExact(wanted: Content, found: Content): Difference {
  const count = { lost: 0, doubled: 0, changed: 0 };
  for (const [key, { hash, times }] of wanted) {
    const there = found.get(key);
    if (!there) count.lost += times;
    else if (there.times > times) count.doubled += there.times - times;
    else if (there.times < times) count.lost += times - there.times;
    else if (there.hash !== hash) count.changed++;
  }
  for (const [key, { times }] of found) if (!wanted.has(key)) count.doubled += times;
  return count;
}

/** What a table of the source ever was: its rows as they were made, and every version committed since, in order. */
export type History = {
  readonly first: readonly Pair[];
  /** Without a hash: the row is gone. */
  readonly changes: readonly {
    readonly key: string;
    readonly hash: string | null;
    /** The hash of the version before. */
    readonly gone?: string | null;
    /** Changes of one transaction, one behind the other, have the same. */
    readonly transaction?: number;
  }[];
};

/** As the triggers of the shop in PostgreSQL noted it. */
export const historyOf = async (source: string, table: ShopTable): Promise<History> => ({
  first: await query<Pair>(source, 'SELECT key, hash FROM history.first WHERE tbl = $1', [table.name]),
  changes: await query<Pair>(source, 'SELECT key, hash FROM history.changes WHERE tbl = $1 ORDER BY n', [table.name]),
});

/**
 * Consistency `chunk`: every target row equals some committed version of its key, no key is there twice, and every key
 * nobody touched is there.
 */
export function compareVersions({ first, changes }: History, found: Content): Difference {
  const versions = new Set([...first, ...changes].map(({ key, hash }) => `${key} ${hash}`));
  const touched = new Set(changes.map(({ key }) => key));
  const count = { lost: 0, doubled: 0, changed: 0 };
  for (const [key, { hash, times }] of found) {
    if (times > 1) count.doubled += times - 1;
    if (!versions.has(`${key} ${hash}`)) count.changed++;
  }
  for (const { key } of first) if (!touched.has(key) && !found.has(key)) count.lost++;
  return count;
}

/**
 * A table without a key, read in one go: it must be what the source was between two transactions. Gives the difference to the
 * state that comes nearest.
 */
export function compareStates({ first, changes }: History, found: Content): Difference {
  const surplus = new Map<string, number>();
  let different = 0;
  const add = (hash: string, times: number) => {
    const before = surplus.get(hash) ?? 0;
    surplus.set(hash, before + times);
    different += Math.abs(before + times) - Math.abs(before);
  };
  for (const { hash } of first) add(hash, -1);
  for (const [hash, { times }] of found) add(hash, times);
  const differenceNow = (): Difference => {
    const left = [...surplus.values()];
    const sum = (of: (times: number) => number) => left.reduce((total, times) => total + Math.max(0, of(times)), 0);
    return { lost: sum((times) => -times), doubled: sum((times) => times), changed: 0 };
  };
  let best = { different, difference: differenceNow() };
  for (const [i, { hash, gone, transaction }] of changes.entries()) {
    if (gone != null) add(gone, 1);
    if (hash !== null) add(hash, -1);
    if (transaction !== undefined && transaction === changes[i + 1]?.transaction) continue;
    if (different < best.different) best = { different, difference: differenceNow() };
  }
  return best.difference;
}

export type SnapshotCopies = AsyncDisposable & {
  /** By the snapshot's generation; absent when it was gone before it could be copied. */
  readonly of: (generation: number, table: string) => Content | undefined;
  /** Waits for the copy of one generation. */
  copied(generation: number, milliseconds?: number): Promise<boolean>;
  stop(): Promise<void>;
};

/**
 * Watches the snapshots which a run's keeper exports, and copies the digest of every table under each token while the
 * keeper holds it: the exact state the run has to produce.
 */
export function copySnapshots(metadata: string, source: string, runId: string): SnapshotCopies {
  const copies = new Map<number, Map<string, Content>>();
  const tried = new Set<number>();
  let stopped = false;
  const watching = watch();

  async function watch(): Promise<void> {
    while (!stopped) {
      const found = await look<{ generation: number; token: string }>(
        metadata,
        'SELECT generation, token FROM godwit.snapshots WHERE run_id = $1 AND lost_at IS NULL',
        [runId],
      ).catch(() => []);
      for (const { generation, token } of found) {
        if (tried.has(generation)) continue;
        try {
          copies.set(generation, await copyUnder(source, token));
          tried.add(generation);
        } catch (error) {
          // Gone already, or the source is away just now.
          if (/invalid snapshot|does not exist/.test(String(error))) tried.add(generation);
        }
      }
      await sleep(20);
    }
  }
  async function stop(): Promise<void> {
    stopped = true;
    await watching;
  }
  return {
    of: (generation, table) => copies.get(generation)?.get(table),
    async copied(generation, milliseconds = 30_000) {
      const deadline = Date.now() + milliseconds;
      while (!copies.has(generation) && Date.now() < deadline) await sleep(20);
      return copies.has(generation);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function copyUnder(source: string, token: string): Promise<Map<string, Content>> {
  const client = new pg.Client({ connectionString: source, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await client.query(`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(token.split(' ')[0] ?? '')}`);
    const copy = new Map<string, Content>();
    for (const table of shop) {
      const { rows } = await client.query(pairs(table, 'shop'));
      copy.set(table.name, contentOf(rows as Pair[], table.key.length > 0));
    }
    return copy;
  } finally {
    await client.end().catch(() => {});
  }
}
