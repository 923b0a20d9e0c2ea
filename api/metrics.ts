import { sql } from 'drizzle-orm';
import { createMiddleware } from 'hono/factory';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { ApiDeps } from './deps.ts';
import { router } from './problem.ts';

/** A registry of its own: several APIs live in one process in tests. */
export function createMetrics(deps: ApiDeps) {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new Histogram({
    name: 'godwit_http_request_seconds',
    help: 'Time to answer, by method, route and status',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30],
    registers: [registry],
  });
  const runs = new Gauge({
    name: 'godwit_runs',
    help: 'Runs stored, by status',
    labelNames: ['status'],
    registers: [registry],
  });
  const tables = new Gauge({
    name: 'godwit_open_tables',
    help: 'Tables of runs that are not over, by status',
    labelNames: ['status'],
    registers: [registry],
  });
  const rows = new Gauge({
    name: 'godwit_rows_written',
    help: 'Rows written durably by all stored runs',
    registers: [registry],
  });
  const bytes = new Gauge({ name: 'godwit_bytes', help: 'Bytes moved by all stored runs', registers: [registry] });

  let counted = 0;
  const count = async () => {
    // Counting many runs takes some ten milliseconds: not more often than a scraper needs.
    if (Date.now() - counted < 5_000) return;
    counted = Date.now();
    const { db } = deps.database;
    const byStatus = await db.execute<{ status: string; n: string }>(
      sql`SELECT status, count(*) AS n FROM godwit.runs GROUP BY status`,
    );
    runs.reset();
    for (const { status, n } of byStatus.rows) runs.set({ status }, Number(n));
    const open = await db.execute<{ status: string; n: string }>(sql`
      SELECT t.status, count(*) AS n FROM godwit.runs r JOIN godwit.run_tables t ON t.run_id = r.id
      WHERE r.status IN ('queued', 'planning', 'running', 'waiting', 'paused') GROUP BY t.status`);
    tables.reset();
    for (const { status, n } of open.rows) tables.set({ status }, Number(n));
    const sums = await db.execute<{ rows: string; bytes: string }>(
      sql`SELECT coalesce(sum(rows_written), 0) AS rows, coalesce(sum(bytes), 0) AS bytes FROM godwit.run_tables`,
    );
    rows.set(Number(sums.rows[0]?.rows));
    bytes.set(Number(sums.rows[0]?.bytes));
  };

  const measure = createMiddleware(async (c, next) => {
    const done = requests.startTimer();
    await next();
    // The route, never the path: names of users' objects are no labels.
    done({ method: c.req.method, route: c.req.routePath, status: String(c.res.status) });
  });
  const routes = router().get('/metrics', async (c) => {
    await count();
    return c.body(await registry.metrics(), 200, { 'content-type': registry.contentType });
  });
  return { measure, routes };
}
