/** What each mode promises of a target, as a model: the source's rows as they were when runs read them. */
import type { Mode } from '../../connectors/contract.ts';
import type { Item, Items, Source } from './worlds.ts';

export type IncrementalMode = Extract<Mode, 'logging' | 'syncing' | 'mirroring'>;

/** The source with what it holds remembered, and what a target in that mode must hold after the next run. */
export class Model {
  readonly #source: Source;
  readonly #mode: IncrementalMode;
  readonly here = new Map<number, Item>();
  #there = new Map<number, Item>();

  constructor(source: Source, mode: IncrementalMode) {
    this.#source = source;
    this.#mode = mode;
  }

  async put(...items: Item[]): Promise<void> {
    await this.#source.put(items);
    for (const item of items) this.here.set(item.id, item);
  }

  async remove(...ids: number[]): Promise<void> {
    await this.#source.remove(ids);
    for (const id of ids) this.here.delete(id);
  }

  /** A run went by: what it must have left, and how many rows it had to write and delete at least and at most. */
  run(): { readonly items: Items; readonly written: number; readonly deleted: number } {
    const before = this.#there;
    const after = new Map(before);
    let written = 0;
    for (const [id, item] of this.here) {
      const old = before.get(id);
      const same = old !== undefined && old.name === item.name && old.at === item.at;
      if (same || (old && this.#mode === 'logging')) continue;
      after.set(id, item);
      written++;
    }
    let deleted = 0;
    if (this.#mode === 'mirroring') {
      for (const id of before.keys()) {
        if (this.here.has(id)) continue;
        after.delete(id);
        deleted++;
      }
    }
    this.#there = after;
    return { items: after, written, deleted };
  }
}

export const sorted = (items: Items): Item[] => [...items.values()].sort((a, b) => a.id - b.id);
