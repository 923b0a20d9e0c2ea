const patienceMs = 10_000;

/** Waits until all is over, well or not, but not for long: a server that does not answer holds nobody up. */
export async function briefly(...under: readonly (Promise<unknown> | undefined)[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, patienceMs);
  });
  await Promise.race([Promise.allSettled(under), late]);
  clearTimeout(timer);
}
