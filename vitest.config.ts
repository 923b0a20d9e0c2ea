import { relative } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

type Group = { readonly name: string; readonly seconds: number };

/** One project per folder of `test/`. First what is quick, and what looks at the clock: little runs beside it. */
const first: readonly Group[] = [
  { name: 'unit', seconds: 30 },
  { name: 'api', seconds: 60 },
  { name: 'servers', seconds: 60 },
  { name: 'cli', seconds: 120 },
];
/** Then the rest. Most of it waits for servers, and for what follows a kill: more of it than there are cores goes on at once. */
const then: readonly Group[] = [
  { name: 'fault', seconds: 600 },
  { name: 'modes', seconds: 240 },
  { name: 'workflow', seconds: 120 },
  { name: 'pairs', seconds: 240 },
  { name: 'conformance', seconds: 120 },
  { name: 'canary', seconds: 120 },
];

/** Minutes each: they begin first (each with something else beside it), so that nothing is waited for alone at the end. */
const longest = [
  'fault/faults',
  'fault/kinds',
  'modes/doubts',
  'modes/postgres',
  'modes/mongodb',
  'modes/mysql',
  'fault/increments',
  'workflow/cut-off',
  'modes/random',
  'fault/sources',
].map((name) => `test/${name}.test.ts`);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId, project }: TestSpecification) => {
      const index = longest.indexOf(relative(import.meta.dirname, moduleId).replaceAll('\\', '/'));
      const group = then.findIndex(({ name }) => name === project.name);
      return index >= 0 ? index : longest.length + group;
    };
    const order = ({ project }: TestSpecification) => project.config.sequence.groupOrder;
    return (await super.sort(files)).sort((a, b) => order(a) - order(b) || place(a) - place(b));
  }
}

const projectsOf = (groups: readonly Group[], groupOrder: number, maxWorkers: number) =>
  groups.map(({ name, seconds }) => ({
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      pool: 'forks' as const,
      maxWorkers,
      testTimeout: seconds * 1_000,
      hookTimeout: 120_000,
      teardownTimeout: 30_000,
      sequence: { groupOrder },
    },
  }));

export default defineConfig({
  test: {
    globalSetup: 'test/servers/setup.ts',
    sequence: { sequencer: LongestFirst },
    projects: [...projectsOf(first, 0, 2), ...projectsOf(then, 1, 4)],
  },
});
