/** Resolves at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once. */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false;
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(name, () => {
        // Servers of ours that are left then are ended by their watchdogs.
        if (asked) process.exit(name === 'SIGINT' ? 130 : 143);
        asked = true;
        resolve(name);
      });
    }
  });
}
