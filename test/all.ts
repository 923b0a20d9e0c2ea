import { parseCLI, startVitest, type TestCase, type TestModule, type TestSuite, type Vitest } from 'vitest/node';

/**
 * `npm test`: every group of vitest.config.ts, or those that the arguments name (`npm test -- test/unit -t name`).
 * Ends with the reason of each skip and one line alone: `N passed, N failed, N skipped`.
 */
const { filter, options } = parseCLI(['vitest', 'run', ...process.argv.slice(2)]);
const skips = new Map<string, number>();
const vitest = await startVitest('test', filter, {
  ...options,
  watch: false,
  onConsoleLog(log) {
    // A suite says why it is skipped while it is collected; kept for the end.
    const reason = /^skipped: (.*)/m.exec(log)?.[1];
    if (reason === undefined) return undefined;
    skips.set(reason, skips.get(reason) ?? 0);
    return false;
  },
});
const result = count(vitest);
await vitest.close();

for (const [reason, times] of skips) console.log(`skipped: ${reason}${times > 1 ? ` (${times} tests)` : ''}`);
console.log(`${result.passed} passed, ${result.failed} failed, ${result.skipped} skipped`);
process.exit(result.failed > 0 || process.exitCode ? 1 : 0);

function count({ state }: Vitest): { passed: number; failed: number; skipped: number } {
  const result = { passed: 0, failed: 0, skipped: 0 };
  for (const module of state.getTestModules()) {
    // A file that could not be loaded, or whose hooks failed, may have no failed test of its own.
    let failed = 0;
    for (const test of module.children.allTests()) {
      const { state: outcome } = test.result();
      if (outcome === 'passed') result.passed++;
      else if (outcome === 'failed') failed++;
      else {
        result.skipped++;
        noteSkip(test);
      }
    }
    result.failed += failed === 0 && hasErrors(module) ? 1 : failed;
  }
  const unhandled = state.getUnhandledErrors().length;
  result.failed += unhandled;
  if (result.passed + result.failed + result.skipped === 0) {
    console.log('no test was found');
    result.failed = 1;
  }
  return result;
}

function hasErrors(module: TestModule): boolean {
  const broken = (suite: TestModule | TestSuite) => suite.errors().length > 0 || suite.state() === 'failed';
  return broken(module) || [...module.children.allSuites()].some(broken);
}

/** `context.skip(reason)` leaves its reason on the test; a suite's own is on the console already, its tests are told here. */
function noteSkip(test: TestCase): void {
  const result = test.result();
  const note = result.state === 'skipped' ? result.note : undefined;
  const reason = note ?? `in ${test.module.relativeModuleId}, with their suite or without a reason`;
  skips.set(reason, (skips.get(reason) ?? 0) + 1);
}
