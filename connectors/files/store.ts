import type { Check } from '../contract.ts';

/**
 * What a file target needs of the place it writes to. Keys are `/`-separated and relative to the target's root. Errors
 * are GodwitErrors already. Everything written is durable when the call returns.
 */
export interface Store extends AsyncDisposable {
  readonly kind: 'local' | 's3';
  /** The same for two spellings of one place. */
  identity(): Promise<string>;
  /**
   * The one primitive that all exactness rests on: of any number of writers of a key exactly one gets `true`. An answer
   * lost on the way and asked again may be `false` for the winner: who cares looks at the content.
   */
  putIfAbsent(key: string, body: Body): Promise<boolean>;
  /** Replaces the object if it is still that version. */
  replaceIf(key: string, bytes: Uint8Array, version: string): Promise<boolean>;
  get(key: string): Promise<{ readonly bytes: Uint8Array; readonly version: string } | undefined>;
  /** Into a new file of the worker's, on whose content nobody writes. False when there is no such object. */
  fetch(key: string, path: string): Promise<boolean>;
  /** As other programs name it: an absolute path, or `s3://bucket/key`. */
  url(key: string): string;
  /** Size in bytes. */
  size(key: string): Promise<number | undefined>;
  /** All objects whose key begins so; `prefix` ends in `/`. No order. */
  list(prefix: string): AsyncIterable<{ readonly key: string; readonly size: number }>;
  /** Inside the store, nothing passes through the worker. Idempotent: parts never change. */
  copy(from: string, to: string): Promise<void>;
  /** Idempotent. */
  delete(keys: readonly string[]): Promise<void>;
  check(): Promise<Check[]>;
}

export type Body = Uint8Array | { readonly file: string };

export const isFile = (body: Body): body is { readonly file: string } => !(body instanceof Uint8Array);
