/**
 * Sends group after group: while the server takes one, the next is read and its intent made durable. One insert is under
 * way at a time.
 */
import { Binary, type Collection, type Db } from 'mongodb';
import { reach } from '../../../faults.ts';
import { briefly } from './briefly.ts';
import { type Group, groupDocuments } from './documents.ts';
import { insertDocuments, type Refused } from './insert.ts';
import { type IntentDoc, within } from './ledger.ts';

export type Inserting = {
  readonly db: Db;
  readonly collection: string;
  /** Rejects when the write is to end now. */
  readonly aborted: Promise<never>;
  /** `key`: of the chunk and this life of its work. */
  readonly intents?: { readonly into: Collection<IntentDoc>; readonly key: string };
  /** Throws FENCED when a newer attempt took over. Only saves work: it may happen right behind. */
  readonly fence: () => Promise<void>;
};

/** What became of a group. */
export type Sent<G extends Group = Group> = { readonly group: G; readonly refused: readonly Refused[] };

/** Takes documents group by group. */
export type Sender<G extends Group = Group> = {
  /** Groups must come with their keys. */
  readonly withIds: boolean;
  /** Documents of a group. */
  readonly most: number;
  /** Gives what became of the one before, or of this one, once that is known. */
  send(group: G): Promise<Sent<G> | undefined>;
  /** Sends what is held, and gives what is still to be told. */
  end(): AsyncGenerator<Sent<G>>;
  /** Waits, not for long, until nothing is under way. */
  settle(): Promise<void>;
};

export class Inserter<G extends Group = Group> implements Sender<G> {
  readonly #how: Inserting;
  #number = 0;
  #under: Promise<Sent<G>> | undefined;
  #intending: Promise<void> = Promise.resolve();
  #held: G | undefined;
  readonly most = groupDocuments;

  constructor(how: Inserting) {
    this.#how = how;
  }

  get withIds(): boolean {
    return this.#how.intents !== undefined;
  }

  /** Gives what became of the one before, once that is known. */
  async send(group: G): Promise<Sent<G> | undefined> {
    const before = this.#held;
    this.#held = group;
    return before && (await this.#start(before));
  }

  /** Sends what is held, and gives what is still to be told. */
  async *end(): AsyncGenerator<Sent<G>> {
    const last = this.#held;
    this.#held = undefined;
    if (last) {
      const before = await this.#start(last, true);
      if (before) yield before;
    }
    if (!this.#under) return;
    const sent = await this.#or(this.#under);
    this.#under = undefined;
    yield sent;
  }

  async #start(group: G, last = false): Promise<Sent<G> | undefined> {
    if (group.count === 0) {
      group.release?.();
      return undefined;
    }
    this.#intending = this.#intend(group);
    await this.#or(Promise.all([this.#intending, this.#how.fence()]));
    const before = this.#under && (await this.#or(this.#under));
    if (last) reach('before-commit');
    this.#under = this.#insert(group);
    this.#under.catch(() => {}); // told when it is awaited, or not at all
    return before;
  }

  async #insert(group: G): Promise<Sent<G>> {
    const refused = await insertDocuments(this.#how.db, this.#how.collection, group);
    group.release?.();
    return { group, refused };
  }

  async #intend({ ids }: G): Promise<void> {
    const { intents } = this.#how;
    if (!intents || !ids) return;
    const { into, key } = intents;
    await into.insertOne({ _id: `${key}.${this.#number++}`, ids: new Binary(ids) });
  }

  /**
   * Waits, not for long, until nothing is under way: what arrives after a discard would make a collection again, or leave
   * an intent.
   */
  async settle(): Promise<void> {
    await briefly(this.#under, this.#intending);
  }

  /** The intents of this chunk, when nobody can need them. Best effort: they go with the work too. */
  async forget(): Promise<void> {
    const { intents } = this.#how;
    if (intents) await intents.into.deleteMany({ _id: within(intents.key) }).catch(() => {});
  }

  #or<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#how.aborted]);
  }
}
