/** One sentence to the person waiting, on stderr, so that the output of a command stays clean. */
export const say = (sentence: string): void => {
  process.stderr.write(`${sentence}\n`);
};
