/** `npm run test:faults` sets GODWIT_FAULT_LONG: more rows, more kills, every seed anew. */
export const long = process.env.GODWIT_FAULT_LONG !== undefined;
