import type { Executor } from './open.ts';

const made = new WeakMap<Executor, Map<string, unknown>>();

/**
 * A query that is asked hundreds of times a second, built once per database and planned once per connection. `name` is
 * the statement's: one text each.
 */
export function prepared<Q>(db: Executor, name: string, build: (name: string) => Q): Q {
  let known = made.get(db);
  if (!known) {
    known = new Map();
    made.set(db, known);
  }
  if (!known.has(name)) known.set(name, build(name));
  return known.get(name) as Q;
}
