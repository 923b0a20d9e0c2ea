import { setTimeout as sleep } from 'node:timers/promises';
import { eventsAfter, eventsChannel, lastEventId } from '../db/events.ts';
import { type RunTable, tablesChangedSince } from '../db/run-tables.ts';
import { activeRuns, getRunSummary, type RunSummary, totalsOf } from '../db/runs.ts';
import type { ApiDeps } from './deps.ts';
import { eventView, runView, tableView } from './run-views.ts';

export type Message =
  | { readonly type: 'run'; readonly run: string; readonly value: ReturnType<typeof runView> }
  | { readonly type: 'table'; readonly run: string; readonly value: ReturnType<typeof tableView> }
  | { readonly type: 'event'; readonly run: string; readonly value: ReturnType<typeof eventView> };

const pollMs = 300;
/** Transactions commit out of order: what happened this long ago may appear only now. */
const lateMs = 5_000;
const lateIds = 500;

/**
 * What changes, for everybody who listens: one look at the database per tick, however many listen, and none when nobody
 * does. Events wake it at once.
 */
export class Feed implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly #listeners = new Set<(message: Message) => void>();
  #stop: AbortController | undefined;
  #looking: Promise<void> | undefined;

  constructor(deps: ApiDeps) {
    this.#deps = deps;
  }

  /** Answers how to stop listening. */
  listen(listener: (message: Message) => void): () => void {
    this.#listeners.add(listener);
    if (!this.#stop) {
      this.#stop = new AbortController();
      this.#looking = this.#look(this.#stop.signal);
    }
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      this.#stop?.abort();
      this.#stop = undefined;
    };
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { database, log } = this.#deps;
    let wake = () => {};
    await using _listening = database.listen(eventsChannel, () => wake());
    const tick = await this.#ticker().catch((error) => {
      log.warn({ err: error }, 'the feed cannot begin');
      return undefined;
    });
    let ticker = tick;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      try {
        ticker ??= await this.#ticker();
        await ticker();
      } catch (error) {
        log.warn({ code: (error as { code?: string }).code }, 'the feed could not look at the database');
        await sleep(1_000, undefined, { signal }).catch(() => {});
      }
      const timer = new AbortController();
      const over = AbortSignal.any([timer.signal, signal]);
      await Promise.race([woken, sleep(pollMs, undefined, { signal: over }).catch(() => {})]);
      timer.abort();
      // Many events in a row are one look.
      await sleep(50, undefined, { signal }).catch(() => {});
    }
  }

  /** Starts at what is now: a listener asks the API for what was before. */
  async #ticker(): Promise<() => Promise<void>> {
    const { db } = this.#deps.database;
    let eventId = await lastEventId(db);
    const seenEvents = new Set((await eventsAfter(db, eventId - lateIds, lateIds + 100)).map(({ id }) => id));
    const seenTables = new Map<string, string>();
    for (const table of await tablesChangedSince(db, new Date(Date.now() - lateMs))) seenTables.set(...markOf(table));
    const runs = new Map<string, string>();
    return async () => {
      for (const event of await eventsAfter(db, eventId - lateIds, 2 * lateIds)) {
        if (seenEvents.has(event.id)) continue;
        seenEvents.add(event.id);
        eventId = Math.max(eventId, event.id);
        this.#tell({ type: 'event', run: event.runId, value: eventView(event) });
      }
      for (const id of seenEvents) if (id <= eventId - lateIds) seenEvents.delete(id);
      await this.#tables(seenTables);
      await this.#runs(runs);
    };
  }

  async #tables(seen: Map<string, string>): Promise<void> {
    const changed = await tablesChangedSince(this.#deps.database.db, new Date(Date.now() - lateMs));
    const now = new Set<string>();
    for (const table of changed) {
      const [key, mark] = markOf(table);
      now.add(key);
      if (seen.get(key) === mark) continue;
      seen.set(key, mark);
      this.#tell({ type: 'table', run: table.runId, value: tableView(table) });
    }
    for (const key of seen.keys()) if (!now.has(key)) seen.delete(key);
  }

  /** Active ones, and each once more when it has ended. */
  async #runs(seen: Map<string, string>): Promise<void> {
    const { db } = this.#deps.database;
    const active = await activeRuns(db);
    const totals = await totalsOf(
      db,
      active.map(({ id }) => id),
    );
    const tell = (run: RunSummary, sums: Parameters<typeof runView>[1]) => {
      const value = runView(run, sums);
      const mark = JSON.stringify(value);
      if (seen.get(run.id) === mark) return;
      seen.set(run.id, mark);
      this.#tell({ type: 'run', run: run.id, value });
    };
    for (const run of active) tell(run, totals.get(run.id));
    const open = new Set(active.map(({ id }) => id));
    for (const id of seen.keys()) {
      if (open.has(id)) continue;
      const ended = await getRunSummary(db, { id }).catch(() => undefined);
      if (ended) tell(ended, (await totalsOf(db, [id])).get(id));
      seen.delete(id);
    }
  }

  #tell(message: Message): void {
    for (const listener of this.#listeners) listener(message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear();
    this.#stop?.abort();
    this.#stop = undefined;
    await this.#looking;
  }
}

/** Key of the table, and what tells one state of it from the next. */
const markOf = (table: RunTable): [string, string] => [
  `${table.runId}/${table.ordinal}`,
  `${table.updatedAt.getTime()}/${table.status}/${table.rowsWritten}/${table.rowsMoving}/${table.chunksDone}`,
];
