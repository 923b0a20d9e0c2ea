import type { FaultPoint } from '../../../faults.ts';
import type { Installation } from '../installation.ts';
import type { Content } from '../oracle.ts';
import type { ShopTable } from '../shop.ts';

/** Where the tables of one job arrive. Read and looked through by its system's own driver: nothing of Godwit takes part. */
export type Place = {
  /** Its entry in the mapping's `destination`. */
  readonly settings: object;
  content(table: ShopTable): Promise<Content>;
  /** What an ended run must not leave, in words. `published`: the tables that runs have published, as Godwit's books name them. */
  strays(published: ReadonlySet<string>): Promise<string[]>;
  /** Transactions of Godwit's that stand open and do nothing. */
  idle?(): Promise<string[]>;
};

/** Something that happens to the server while it is written to. */
export type Disturbance = { readonly name: string; readonly make: () => Promise<unknown> };

/** A server of its own, or a folder, for the tests of one kind of target. */
export type Running = AsyncDisposable & {
  place(name: string): Promise<Place>;
  readonly disturbances: readonly Disturbance[];
};

/** A text of the project, to be found exactly once in its file, and what stands there instead. */
export type Change = { readonly file: string; readonly from: string; readonly to: string };

export type Kind = {
  readonly name: string;
  /** The named points that a worker passes on its way to such a target. */
  readonly writing: readonly FaultPoint[];
  readonly publishing: readonly FaultPoint[];
  start(at: Installation): Promise<Running>;
  /**
   * The project without what holds a stale writer off. `stopAt` is where it must sleep for its rows to be there twice;
   * `wakes`: once it has gone on.
   */
  readonly fence: { readonly changes: readonly Change[]; readonly stopAt: FaultPoint; readonly wakes: boolean };
};
