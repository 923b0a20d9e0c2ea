import type { Installation } from '../installation.ts';
import type { Shop } from '../job.ts';
import type { Disturbance } from '../kinds/kind.ts';
import type { Random } from '../random.ts';
import type { Writer } from '../writer.ts';

/** A shop in another system than PostgreSQL, each chunk of which is read at a moment of its own, on its way to PostgreSQL. */
export type ChangingSource = AsyncDisposable & {
  readonly shop: Shop;
  /** Changes it all the while; what it has written is in the shop's history. */
  write(random: Random): Writer;
  /** Every piece from the server comes this much later. 0 ends it. */
  delay(milliseconds: number): void;
  readonly disturbances: readonly Disturbance[];
};

export type SourceKind = {
  readonly name: string;
  start(at: Installation, rows: number): Promise<ChangingSource>;
};
