import { defineConfig } from 'vitest/config';

/** One project per folder of `test/`, run in this order: what is quick and what most else stands on comes first. */
const groups: readonly { name: string; seconds: number; workers?: number }[] = [
  { name: 'unit', seconds: 20 },
  { name: 'conformance', seconds: 60 },
  { name: 'workflow', seconds: 60 },
  { name: 'pairs', seconds: 240 },
  { name: 'modes', seconds: 240 },
  { name: 'api', seconds: 60 },
  { name: 'servers', seconds: 60 },
  { name: 'cli', seconds: 120 },
  { name: 'canary', seconds: 120, workers: 1 },
  { name: 'fault', seconds: 300, workers: 1 },
];

export default defineConfig({
  test: {
    globalSetup: 'test/servers/setup.ts',
    projects: groups.map(({ name, seconds, workers = 2 }, index) => ({
      extends: true as const,
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        pool: 'forks' as const,
        maxWorkers: workers,
        testTimeout: seconds * 1_000,
        hookTimeout: 120_000,
        teardownTimeout: 30_000,
        sequence: { groupOrder: index },
      },
    })),
  },
});
