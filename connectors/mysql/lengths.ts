/** Length-encoded integers of the protocol: below 0xfb the byte itself, 0xfb NULL, and longer forms. */

/** Of the forms with 2, 3 and 8 bytes behind the first. */
export function longLength(from: Buffer, at: number): number {
  switch (from[at]) {
    case 0xfc:
      return (from[at + 1] as number) | ((from[at + 2] as number) << 8);
    case 0xfd:
      return (from[at + 1] as number) | ((from[at + 2] as number) << 8) | ((from[at + 3] as number) << 16);
    default:
      return Number(from.readBigUInt64LE(at + 1));
  }
}
