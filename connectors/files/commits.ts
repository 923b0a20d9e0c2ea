/**
 * Who may write a chunk, and what it became: one short log per chunk in the staging, made of nothing but put-if-absent.
 *
 *     chunks/000007/000001.json  claim          epoch 1
 *     chunks/000007/000002.json  claim          epoch 2: a second attempt, the first seemed dead
 *     chunks/000007/000003.json  commit         of epoch 2; the last entry there will ever be
 *
 * A claim takes the slot behind the last entry; its slot's number is its epoch. The commit of epoch n must take slot n+1,
 * and a newer claim wants that very slot. Put-if-absent gives it to exactly one of them:
 *
 * 1. The commit gets it: the chunk is done. Every later claim sees the commit and does nothing.
 * 2. A newer claim gets it: the old attempt finds its slot taken and is FENCED, however late it wakes up.
 *
 * So at most one commit exists, and it is of the newest claim. Parts carry the epoch and a random attempt in their waiting
 * names: no two attempts write one key, and the commit lists exactly those of its own, with sizes and hashes. What others
 * left is never looked at and goes with the staging. No clock and no lock is involved, and no ETag.
 *
 * An answer lost on the way looks like a taken slot; the entry's random `by` tells whether it is one's own.
 */
import { randomUUID } from 'node:crypto';
import { GodwitError } from '../../errors.ts';
import { type Chunk, type Claim, type Counts, tableText, type Work } from '../contract.ts';
import { chunkFolder, slotKey, stagingFolder } from './layout.ts';
import type { Store } from './store.ts';

export type StagedPart = {
  /** Where it waits. */
  readonly key: string;
  readonly partition: string;
  readonly rows: number;
  readonly bytes: number;
  readonly sha256: string;
  /** Of incremental modes: where the digests of its rows wait (recent.ts). */
  readonly digests?: string;
};

/** Without the chunk's bounds: they may be key values, which live sealed in Godwit's own database only (decision 28). */
type ChunkNote = Pick<Chunk, 'id' | 'kind' | 'rows'>;
type ClaimEntry = { readonly entry: 'claim'; readonly by: string; readonly at: string; readonly chunk: ChunkNote };
export type CommitEntry = {
  readonly entry: 'commit';
  readonly by: string;
  readonly at: string;
  readonly chunk: ChunkNote;
  readonly epoch: number;
  readonly counts: Counts;
  readonly parts: readonly StagedPart[];
};
type Entry = ClaimEntry | CommitEntry;

export const jsonBytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify(value, null, 1)}\n`);
export const parseJson = <T>(bytes: Uint8Array): T => JSON.parse(new TextDecoder().decode(bytes)) as T;

const note = ({ id, kind, rows }: Chunk): ChunkNote => ({ id, kind, rows });

/** The log's last entry and its slot; slot 0 when there is none. */
async function last(store: Store, work: Work, chunk: number): Promise<{ slot: number; entry?: Entry }> {
  let slot = 0;
  for await (const { key } of store.list(chunkFolder(work, chunk))) {
    slot = Math.max(slot, Number(/(\d+)\.json$/.exec(key)?.[1] ?? 0));
  }
  const entry = slot === 0 ? undefined : await read(store, slotKey(work, chunk, slot));
  return { slot, ...(entry ? { entry } : {}) };
}

async function read(store: Store, key: string): Promise<Entry | undefined> {
  const found = await store.get(key);
  return found && parseJson<Entry>(found.bytes);
}

/** Puts the entry into the slot; true when it is there and ours, also after a lost answer. */
async function take(store: Store, key: string, entry: Entry): Promise<boolean> {
  if (await store.putIfAbsent(key, jsonBytes(entry))) return true;
  return (await read(store, key))?.by === entry.by;
}

export async function claimChunk(store: Store, work: Work, chunk: Chunk): Promise<Claim> {
  const entry: ClaimEntry = { entry: 'claim', by: randomUUID(), at: new Date().toISOString(), chunk: note(chunk) };
  // Nearly every chunk is claimed once: the first slot is tried without a look.
  let slot = 1;
  for (;;) {
    if (await take(store, slotKey(work, chunk.id, slot), entry)) return { chunk, epoch: slot };
    const found = await last(store, work, chunk.id);
    if (found.entry?.entry === 'commit') return { chunk, epoch: found.entry.epoch, done: found.entry.counts };
    slot = found.slot + 1;
  }
}

type Commit = {
  readonly claim: Claim;
  readonly by: string;
  readonly counts: Counts;
  readonly parts: readonly StagedPart[];
};

/** Throws FENCED when a newer claim has the slot. */
export async function commitChunk(store: Store, work: Work, { claim, by, counts, parts }: Commit): Promise<void> {
  const { chunk, epoch } = claim;
  const entry: CommitEntry = {
    entry: 'commit',
    by,
    at: new Date().toISOString(),
    chunk: note(chunk),
    epoch,
    counts,
    parts,
  };
  const slot = slotKey(work, chunk.id, epoch + 1);
  if (await take(store, slot, entry)) {
    // Its claim is gone when the whole log is: the table was published or discarded long ago, and nobody reads this entry.
    if ((await store.size(slotKey(work, chunk.id, epoch))) !== undefined) return;
    await store.delete([slot]);
  }
  const table = tableText(work.name);
  throw new GodwitError('FENCED', `A newer attempt took over chunk ${chunk.id} of ${table}; this one wrote nothing.`, {
    table,
    chunk: chunk.id,
    target: work.target,
  });
}

/** The last entry of every chunk there is, by chunk. */
export async function* chunkLogs(
  store: Store,
  work: Work,
): AsyncGenerator<{ chunk: number; epoch: number; commit?: CommitEntry; claim?: ClaimEntry }> {
  const folder = `${stagingFolder(work)}chunks/`;
  const slots = new Map<number, number>();
  for await (const { key } of store.list(folder)) {
    const [, chunk, slot] = /(\d+)\/(\d+)\.json$/.exec(key) ?? [];
    if (chunk === undefined) continue;
    slots.set(Number(chunk), Math.max(slots.get(Number(chunk)) ?? 0, Number(slot)));
  }
  for (const [chunk, slot] of [...slots].sort(([a], [b]) => a - b)) {
    const entry = await read(store, slotKey(work, chunk, slot));
    if (entry?.entry === 'commit') yield { chunk, epoch: entry.epoch, commit: entry };
    else if (entry) yield { chunk, epoch: slot, claim: entry };
  }
}

/** All commits. Throws CONFLICT while a chunk is claimed and not committed: the table is not complete. */
export async function commitsOf(store: Store, work: Work): Promise<CommitEntry[]> {
  const commits: CommitEntry[] = [];
  for await (const { chunk, commit } of chunkLogs(store, work)) {
    if (!commit) {
      throw new GodwitError(
        'CONFLICT',
        `Chunk ${chunk} of ${tableText(work.name)} is not done; nothing was published.`,
        {
          table: tableText(work.name),
          chunk,
        },
      );
    }
    commits.push(commit);
  }
  return commits;
}
