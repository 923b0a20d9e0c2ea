import type { Source, Target } from '../connectors/contract.ts';
import { ours } from './failures.ts';
import type { Openers } from './openers.ts';

type Opening = Pick<Openers, 'source' | 'target'>;

export type Borrowed<T> = AsyncDisposable & { readonly it: T };

type Entry = { readonly opened: Promise<Source | Target>; users: number; timer?: NodeJS.Timeout; stale: boolean };

/**
 * Opened sources and targets, shared by all activities of a run in this worker: a run pays for its logins once. One that
 * nobody uses is closed after some seconds, one whose connection failed is not given out again.
 */
export class Endpoints implements AsyncDisposable {
  readonly #openers: Opening;
  readonly #lingerMs: number;
  readonly #entries = new Map<string, Entry>();

  constructor(openers: Opening, lingerMs = 10_000) {
    this.#openers = openers;
    this.#lingerMs = lingerMs;
  }

  source(run: string, name: string): Promise<Borrowed<Source>> {
    return this.#borrow(`${run} source ${name}`, () => this.#openers.source(name));
  }

  target(run: string, name: string): Promise<Borrowed<Target>> {
    return this.#borrow(`${run} target ${name}`, () => this.#openers.target(name));
  }

  /** Not given out again: its connection failed. Users finish with it. */
  distrust(it: Source | Target): void {
    for (const [key, entry] of this.#entries) {
      void entry.opened.then(
        (opened) => {
          if (opened !== it) return;
          entry.stale = true;
          if (this.#entries.get(key) === entry) this.#entries.delete(key);
          if (entry.users === 0) void this.#close(key, entry);
        },
        () => {},
      );
    }
  }

  /** A run ended: what it had open closes as soon as nobody uses it. */
  async release(run: string): Promise<void> {
    const mine = [...this.#entries].filter(([key]) => key.startsWith(`${run} `));
    await Promise.all(mine.map(([key, entry]) => (entry.users === 0 ? this.#close(key, entry) : undefined)));
  }

  async #borrow<T extends Source | Target>(key: string, open: () => Promise<T>): Promise<Borrowed<T>> {
    let entry = this.#entries.get(key);
    if (!entry) {
      entry = { opened: open(), users: 0, stale: false };
      this.#entries.set(key, entry);
    }
    const mine = entry;
    clearTimeout(mine.timer);
    mine.users++;
    const giveBack = async () => {
      if (--mine.users > 0) return;
      if (mine.stale) return await this.#close(key, mine);
      mine.timer = setTimeout(() => void this.#close(key, mine), this.#lingerMs);
      mine.timer.unref();
    };
    try {
      const it = (await mine.opened) as T;
      let given = false;
      return {
        it,
        async [Symbol.asyncDispose]() {
          if (!given) {
            given = true;
            await giveBack();
          }
        },
      };
    } catch (error) {
      mine.users--;
      if (this.#entries.get(key) === mine) this.#entries.delete(key);
      throw ours(error);
    }
  }

  async #close(key: string, entry: Entry): Promise<void> {
    clearTimeout(entry.timer);
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
    try {
      const it = await entry.opened;
      await it[Symbol.asyncDispose]();
    } catch {
      // Closing what is broken already.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#entries].map(([key, entry]) => this.#close(key, entry)));
  }
}
