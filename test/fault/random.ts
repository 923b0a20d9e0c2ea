import { randomInt } from 'node:crypto';

/** A seeded generator: the same seed gives the same numbers. */
export type Random = {
  readonly seed: number;
  /** 0 ≤ x < 1. */
  next(): number;
  /** Whole, both ends included. */
  between(low: number, high: number): number;
  pick<T>(from: readonly T[]): T;
  chance(of: number): boolean;
  /** A generator of its own: what it draws does not shift the others. */
  fork(name: string): Random;
};

/** GODWIT_FAULT_SEED repeats a run; else a new one, printed so that it can be repeated. */
export function seedOfTheDay(): number {
  const given = process.env.GODWIT_FAULT_SEED;
  const seed = given ? Number(given) : randomInt(1, 2 ** 31);
  console.log(`fault tests: GODWIT_FAULT_SEED=${seed}`);
  return seed;
}

/** mulberry32. */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  return {
    seed,
    next,
    between: (low, high) => low + Math.floor(next() * (high - low + 1)),
    pick: (from) => from[Math.floor(next() * from.length)] as (typeof from)[number],
    chance: (of) => next() < of,
    fork: (name) => randomOf([...name].reduce((hash, char) => Math.imul(hash ^ char.charCodeAt(0), 16_777_619), seed)),
  };
}
