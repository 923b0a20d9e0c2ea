/**
 * Documents of an increment against the collection people read. What is there with the same bytes is left alone; the rest
 * goes into the chunk's own collection, from where `redo.ts` applies it. A document of rows keeps the fields that the work
 * does not have. Of two documents of one key the later one counts; the other is unchanged.
 */
import { BSON, type Db, type Document } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { reach } from '../../../faults.ts';
import type { Counts, Increment } from '../../contract.ts';
import { behindName, bson, int32, long, longIsSafe, longNumber, sizeOf } from '../bson.ts';
import { rawBatches } from '../raw.ts';
import { exact } from '../session.ts';
import { briefly } from './briefly.ts';
import { makeCollection } from './collections.ts';
import { deleteStatement } from './delete-keys.ts';
import { type Group, idAt } from './documents.ts';
import { refusal } from './from-bytes.ts';
import { deleteDocuments, insertDocuments } from './insert.ts';
import type { Sender, Sent } from './inserter.ts';
import { mergedInto } from './merged.ts';
import { Out } from './out.ts';

export type Differing = {
  readonly db: Db;
  /** The one people read. */
  readonly table: string;
  /** Of this attempt alone; made when the first document differs. */
  readonly aside: string;
  readonly collation?: Document;
  readonly existing: Increment['existing'];
  /** Documents of rows: their fields replace those of the same names, and no other. */
  readonly merges: boolean;
  readonly signal: AbortSignal;
  readonly aborted: Promise<never>;
  /** Throws FENCED when a newer attempt took over. */
  readonly fence: () => Promise<void>;
};

export type Differences = { inserted: number; updated: number; unchanged: number; staged: number };

/** Documents compared at once. */
const comparedAtOnce = 5000;

type Mine = { readonly b: Buffer; readonly index: number; state: 'new' | 'same' | 'other'; merged?: Buffer };

export class Differ<G extends Group = Group> implements Sender<G> {
  readonly #how: Differing;
  readonly counts: Differences = { inserted: 0, updated: 0, unchanged: 0, staged: 0 };
  #held: G | undefined;
  #made = false;
  #under: Promise<unknown> = Promise.resolve();
  readonly withIds = false;
  readonly most = comparedAtOnce;

  constructor(how: Differing) {
    this.#how = how;
  }

  async send(group: G): Promise<Sent<G> | undefined> {
    const before = this.#held;
    this.#held = group;
    return before && (await this.#take(before));
  }

  async *end(): AsyncGenerator<Sent<G>> {
    const last = this.#held;
    this.#held = undefined;
    if (last) yield await this.#take(last, true);
  }

  /** Waits, not for long, until nothing is under way. */
  async settle(): Promise<void> {
    await briefly(this.#under);
  }

  async #take(group: G, last = false): Promise<Sent<G>> {
    const { fence, aborted } = this.#how;
    await Promise.race([fence(), aborted]);
    const work = this.#difference(group, last);
    this.#under = work;
    work.catch(() => {}); // told when it is awaited, or not at all
    const refused = await Promise.race([work, aborted]);
    group.release?.();
    return { group, refused };
  }

  async #difference(group: G, last: boolean): Promise<Sent['refused']> {
    const mine = new Map<string, Mine>();
    let index = 0;
    for (const part of group.parts) {
      const b = Buffer.from(part.buffer, part.byteOffset, part.byteLength);
      for (let at = 0; at < b.length; ) {
        const length = int32(b, at);
        const document = b.subarray(at, at + length);
        const key = idKey(document);
        // The later one is the newer one.
        if (mine.has(key)) this.counts.unchanged++;
        mine.set(key, { b: document, index: index++, state: 'new' });
        at += length;
      }
    }
    await this.#compare(mine);
    const same: Mine[] = [];
    const staged: Mine[] = [];
    for (const one of mine.values()) (one.state === 'same' ? same : staged).push(one);
    this.counts.unchanged += same.length;
    await this.#overrule(same);
    if (last) reach('before-commit');
    const bad = staged.filter(({ b }) => !mergeable(b));
    const refused = await this.#stage(bad.length > 0 ? staged.filter((one) => !bad.includes(one)) : staged);
    return [...refused, ...bad.map((one) => ({ index: one.index, code: noKey }))];
  }

  async #compare(mine: ReadonlyMap<string, Mine>): Promise<void> {
    const { db, table, existing, merges, signal } = this.#how;
    if (mine.size === 0) return;
    const ids = idsOf([...mine.values()].map(({ b }) => b));
    const command = { find: table, filter: { _id: { $in: ids } } };
    const options = { signal, bytes: 4 * 1024 * 1024, averageBytes: 1000 };
    const read = existing === 'keep' ? { ...command, projection: { _id: 1 } } : command;
    for await (const { b, start, end } of rawBatches({ db, client: db.client }, read, options)) {
      for (let p = start; p < end; ) {
        const at = behindName(b, p + 1);
        p = at + int32(b, at);
        const theirs = b.subarray(at, p);
        const one = mine.get(idKey(theirs));
        if (!one) continue;
        if (existing === 'keep') one.state = 'same';
        else if (merges) {
          const merged = mergedInto(theirs, one.b);
          one.state = merged ? 'other' : 'same';
          if (merged) one.merged = merged;
        } else one.state = equal(theirs, one.b) ? 'same' : 'other';
      }
    }
  }

  /** An earlier document of these keys may wait in the chunk's collection; the later one says that nothing changes. */
  async #overrule(same: readonly Mine[]): Promise<void> {
    const { db, aside } = this.#how;
    if (!this.#made || same.length === 0) return;
    const ids = new Out(4096);
    for (const { b } of same) appendIdOf(ids, b);
    const all = ids.take();
    for (let at = 0; at < all.length; ) {
      const { statement, next } = deleteStatement(all, at, 10_000);
      const deleted = await deleteDocuments(db, aside, statement);
      this.counts.updated -= deleted;
      this.counts.unchanged += deleted;
      this.counts.staged -= deleted;
      at = next;
    }
  }

  async #stage(staged: readonly Mine[]): Promise<Sent['refused']> {
    if (staged.length === 0) return [];
    const { db, aside, collation } = this.#how;
    if (!this.#made) {
      await makeCollection(db, aside, collation ? { collation } : {});
      this.#made = true;
    }
    const parts = staged.map(({ b, merged }) => merged ?? b);
    const refused = await insertDocuments(db, aside, { parts, count: parts.length });
    const bad: { index: number; code: number }[] = [];
    const failed = new Set<number>();
    for (const { index, code } of refused) {
      const one = staged[index] as Mine;
      failed.add(index);
      if (code !== 11000 && code !== 11001) {
        bad.push({ index: one.index, code });
        continue;
      }
      // Of an earlier group: this one is the later one.
      await replace(db, aside, one.merged ?? one.b);
      this.counts.unchanged++;
    }
    staged.forEach(({ state }, i) => {
      if (failed.has(i)) return;
      this.counts.staged++;
      if (state === 'new') this.counts.inserted++;
      else this.counts.updated++;
    });
    return bad;
  }
}

/** What the attempt says, with what became of the documents. */
export const countsOf = (counts: Counts, { inserted, updated, unchanged }: Differences): Counts => ({
  ...counts,
  written: inserted + updated,
  inserted,
  updated,
  unchanged,
});

async function replace(db: Db, collection: string, document: Uint8Array): Promise<void> {
  const whole = BSON.deserialize(document, exact);
  const { modifiedCount, matchedCount } = await db
    .collection<Document>(collection)
    .replaceOne({ _id: whole._id }, whole, { ...exact, writeConcern: { w: 'majority', journal: true } });
  if (matchedCount === 0 && modifiedCount === 0) throw refusal(11000);
}

/** What `$merge` says of a key that is null: said before the chunk is decided. */
const noKey = 51_132;
function mergeable(b: Buffer): boolean {
  const type = b[idElement(b)];
  return type !== bson.null && type !== bson.undefined;
}

/** The same for what the server takes for one key: whole numbers of any type. */
export function idKey(b: Buffer): string {
  const element = idElement(b);
  const type = b[element] as number;
  const at = element + 5;
  switch (type) {
    case bson.int:
      return `n${int32(b, at)}`;
    case bson.long:
      return longIsSafe(b, at) ? `n${longNumber(b, at)}` : `n${long(b, at)}`;
    case bson.double: {
      const x = b.readDoubleLE(at);
      if (Number.isSafeInteger(x)) return `n${x + 0}`;
      break;
    }
    default:
  }
  return `${type}:${b.toString('latin1', at, at + sizeOf(b, type, at))}`;
}

function idElement(b: Buffer): number {
  const element = idAt(b, 0, b.length);
  if (element < 0) throw new GodwitError('INTERNAL', 'A document without a key in an increment.');
  return element;
}

function appendIdOf(ids: Out, b: Buffer): void {
  const element = idElement(b);
  const type = b[element] as number;
  ids.byte(type);
  ids.bytes(b.subarray(element + 5, element + 5 + sizeOf(b, type, element + 5)));
}

/** Values of `_id` with their types kept, for a filter. */
export function idsOf(documents: readonly Buffer[]): unknown[] {
  const out = new Out(documents.length * 32 + 64);
  const start = out.open();
  out.byte(bson.array);
  out.name('ids');
  const list = out.open();
  documents.forEach((b, i) => {
    const element = idElement(b);
    const type = b[element] as number;
    out.byte(type);
    out.name(String(i));
    out.bytes(b.subarray(element + 5, element + 5 + sizeOf(b, type, element + 5)));
  });
  out.close(list);
  out.close(start);
  return BSON.deserialize(out.take(), exact).ids as unknown[];
}

/** Byte by byte; `_id` may stand anywhere in one of them. */
function equal(one: Buffer, two: Buffer): boolean {
  if (one.equals(two)) return true;
  if (one.length !== two.length) return false;
  const [a, b] = [idAt(one, 0, one.length), idAt(two, 0, two.length)];
  if (a === b) return false;
  return withoutId(one, a).equals(withoutId(two, b)) && idOf(one, a).equals(idOf(two, b));
}

const idOf = (b: Buffer, element: number): Buffer =>
  b.subarray(element, element + 5 + sizeOf(b, b[element] as number, element + 5));
const withoutId = (b: Buffer, element: number): Buffer =>
  Buffer.concat([b.subarray(4, element), b.subarray(element + idOf(b, element).length)]);
