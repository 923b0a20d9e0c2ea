/** Buffers for rows on their way out, used again when their taker has given them back. What never comes back is garbage. */
const slabBytes = 1024 * 1024;
const mostFree = 8;
const free: Buffer[] = [];

/** At least this large; usually one megabyte. Its content is whatever was there. */
export function takeSlab(least: number): Buffer {
  if (least > slabBytes) return Buffer.allocUnsafeSlow(least);
  return free.pop() ?? Buffer.allocUnsafeSlow(slabBytes);
}

export function giveBack(slab: Buffer): void {
  if (slab.length === slabBytes && free.length < mostFree) free.push(slab);
}
