import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Random } from './random.ts';

export type Writer = AsyncDisposable & {
  /** Committed transactions. */
  readonly committed: number;
  stop(): Promise<void>;
};

/** A session of the writer's. Its errors end it, and another one is opened. */
export type Writing = { transaction(): Promise<void>; close(): Promise<void> };

/** Transaction after transaction; goes on after the server was restarted or its connection ended. */
export function writing(open: () => Promise<Writing>, pauseMs = 20): Writer {
  let stopped = false;
  let committed = 0;
  const working = work();

  async function work(): Promise<void> {
    while (!stopped) {
      let session: Writing | undefined;
      try {
        session = await open();
        while (!stopped) {
          await session.transaction();
          committed++;
          await sleep(pauseMs);
        }
      } catch {
        await sleep(200); // a conflict with itself, or the server is away: begin again
      } finally {
        await session?.close().catch(() => {});
      }
    }
  }

  async function stop(): Promise<void> {
    stopped = true;
    await working;
  }
  return {
    get committed() {
      return committed;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Inserts, updates (keys too) and deletes in the shop in PostgreSQL all the while, in small transactions. */
export const startWriter = (url: string, random: Random, pauseMs?: number): Writer =>
  writing(async () => {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000, application_name: 'writer' });
    client.on('error', () => {});
    const close = () => client.end();
    try {
      await client.connect();
      await client.query("SET statement_timeout = '20s'; SET lock_timeout = '10s'");
    } catch (error) {
      await close().catch(() => {});
      throw error;
    }
    return { transaction: () => transaction(client, random), close };
  }, pauseMs);

async function transaction(client: pg.Client, random: Random): Promise<void> {
  const statements = Array.from({ length: random.between(1, 3) }, () => change(random));
  await client.query(['BEGIN', ...statements, 'COMMIT'].join(';\n'));
}

/** One change. Keys are drawn from the whole range, gaps included, so that rows move across chunk borders. */
function change(random: Random): string {
  const n = random.between(1, 1_000_000_000);
  const key = '(SELECT (1 + floor(random() * (SELECT max(id) FROM shop.orders)))::bigint)';
  const order = `(SELECT id FROM shop.orders WHERE id >= ${key} ORDER BY id LIMIT 1)`;
  const visit = `(SELECT id FROM shop.visits WHERE id >= md5('${n}')::uuid ORDER BY id LIMIT 1)`;
  const t = random.between(1, 3);
  switch (random.between(1, 14)) {
    case 1:
    case 2:
      return `UPDATE shop.orders SET rev = rev + 1, amount = ${n % 100_000} / 100.0, note = 'n${n}' WHERE id = ${order}`;
    case 3:
      return `INSERT INTO shop.orders VALUES (${key}, 0, ${n % 997}, 1.25, now(), NULL, repeat(md5('${n}'), 5)) ON CONFLICT DO NOTHING`;
    case 4:
      return `DELETE FROM shop.orders WHERE id = ${order}`;
    case 5: // a key that moves far: perhaps from a chunk not yet read into one that is, or back
      return `UPDATE shop.orders o SET id = k, rev = rev + 1 FROM ${key} AS f(k)
        WHERE id = ${order} AND NOT EXISTS (SELECT FROM shop.orders x WHERE x.id = f.k)`;
    case 6:
      return `UPDATE shop.items SET rev = rev + 1, price = price + 1 WHERE order_id = ${order}`;
    case 7:
      return `INSERT INTO shop.items SELECT id, ${random.between(2, 9)}, 0, 3.5, '\\x00ff' FROM shop.orders WHERE id = ${order} ON CONFLICT DO NOTHING`;
    case 8:
      return `DELETE FROM shop.items WHERE order_id = ${order}`;
    case 9:
      return `UPDATE shop.visits SET rev = rev + 1, page = page || '${n}' WHERE id = ${visit}`;
    case 10:
      return `INSERT INTO shop.visits VALUES (md5('new ${n}')::uuid, 0, 'new', now()) ON CONFLICT DO NOTHING`;
    case 11:
      return `UPDATE shop.visits SET id = md5('moved ${n}')::uuid, rev = rev + 1 WHERE id = ${visit}`;
    case 12:
      return `DELETE FROM shop.visits WHERE id = ${visit}`;
    case 13:
      return random.pick([
        `INSERT INTO shop.remarks VALUES (${n % 10}, 0, 'said ${n}')`,
        `UPDATE shop.remarks SET rev = rev + 1 WHERE said = (SELECT said FROM shop.remarks OFFSET ${n % 500} LIMIT 1)`,
        `DELETE FROM shop.remarks WHERE said = (SELECT said FROM shop.remarks OFFSET ${n % 500} LIMIT 1)`,
      ]);
    default:
      return random.pick([
        `INSERT INTO shop.small_${t} VALUES (${50 + (n % 50)}, 0, 'new') ON CONFLICT DO NOTHING`,
        `UPDATE shop.small_${t} SET rev = rev + 1 WHERE id = ${1 + (n % 100)}`,
        `DELETE FROM shop.small_${t} WHERE id = ${1 + (n % 100)}`,
      ]);
  }
}
