/** The size of the fault tests. `npm run test:faults` makes them longer. */
const given = (name: string): number | undefined => {
  const value = process.env[name];
  return value ? Number(value) : undefined;
};

/** Kills at random times in one run. */
export const killsInOneRun = given('GODWIT_FAULT_KILLS') ?? 4;
/** Rows of the biggest table; all tables together have about 2.6 times as many. */
export const rowsOfOrders = given('GODWIT_FAULT_ROWS') ?? 40_000;
/** How often a run is canceled, and paused and resumed. */
export const interruptions = given('GODWIT_FAULT_INTERRUPTIONS') ?? 3;
/** One kind of target or source alone, and with it what takes minutes: `mariadb`. */
export const onlyKind = process.env.GODWIT_FAULT_TARGET || undefined;
export const atLength = onlyKind !== undefined;
/** As many as `rowsOfOrders` at length only. */
export const rowsTowardsKind = atLength ? rowsOfOrders : 20_000;
