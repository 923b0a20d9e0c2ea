/** Contenders in turn on the same rows; medians, ratios pair by pair, CPU and memory. */
import type { Installation, Run } from './installation.ts';
import { cpuSeconds, endedCpuSeconds, median, ownCpuSeconds, seconds, watchMemory } from './measure.ts';

/** `mover`, `source`, `target`: CPU seconds. `temporal`: its share (0–1) of the run's time, of Godwit's runs. */
type Sample = { wall: number; source: number; target: number; mover: number; memory: number; temporal?: number };
export type Contender = { readonly name: string; readonly run: () => Promise<Omit<Sample, 'source' | 'target'>> };

export const line = (text: string) => process.stdout.write(`${text}\n`);
export const m = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;

export type Comparison = {
  readonly title: string;
  /** Rows of one copy. */
  readonly count: number;
  readonly rounds: number;
  readonly servers: { readonly source: { readonly pid: number }; readonly target: { readonly pid: number } };
  /** Ratios are to the first. */
  readonly contenders: readonly Contender[];
  /** Before each copy: everything as if there had been none. */
  readonly rest: () => Promise<void>;
};

/** All contenders in turn, `rounds` times over, after one warm-up each; medians and ratios to the first. */
export async function compare({ title, count, rounds, servers, contenders, rest }: Comparison) {
  line(`\n## ${title}: ${count.toLocaleString('en')} rows, ${rounds} rounds`);
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    const order = round % 2 ? [...contenders].reverse() : contenders;
    for (const contender of order) {
      await rest();
      const before = [cpuSeconds(servers.source.pid), cpuSeconds(servers.target.pid)] as const;
      const got = await contender.run();
      const sample = {
        ...got,
        source: cpuSeconds(servers.source.pid) - before[0],
        target: cpuSeconds(servers.target.pid) - before[1],
      };
      if (round > 0) samples.get(contender.name)?.push(sample);
      line(`  ${round === 0 ? 'warm-up' : `round ${round}`} ${contender.name}: ${got.wall.toFixed(2)} s`);
    }
  }
  const of = (name: string, field: keyof Sample) =>
    median((samples.get(name) ?? []).map((sample) => sample[field] ?? Number.NaN));
  const first = contenders[0]?.name ?? '';
  const per = (value: number) => ((value / count) * 1e6).toFixed(2);
  line("| | seconds | rows/s | Godwit's speed against it | CPU-s per M rows: mover, source, target | peak memory |");
  line('|---|---|---|---|---|---|');
  for (const { name } of contenders) {
    const wall = of(name, 'wall');
    const ratios = (samples.get(name) ?? []).map(
      (sample, i) => sample.wall / (samples.get(first)?.[i]?.wall ?? Number.NaN),
    );
    const cpu = `${per(of(name, 'mover'))}, ${per(of(name, 'source'))}, ${per(of(name, 'target'))}`;
    line(
      `| ${name} | ${wall.toFixed(2)} | ${Math.round(count / wall).toLocaleString('en')} | ${median(ratios).toFixed(3)} | ${cpu} | ${of(name, 'memory') > 0 ? m(of(name, 'memory')) : ''} |`,
    );
  }
  line(`Temporal's share of Godwit's time: ${(of(first, 'temporal') * 100).toFixed(2)} %`);
}

export const outside = async (work: () => Promise<unknown>) => {
  const before = endedCpuSeconds();
  const wall = await seconds(work);
  return { wall, mover: endedCpuSeconds() - before, memory: 0 };
};

/** Seconds from the request to the end, by the run's own books: its tables are readable then. */
export const lasted = ({ createdAt, endedAt }: Run) => (Date.parse(endedAt ?? '') - Date.parse(createdAt)) / 1000;

export async function godwit(
  installation: Installation,
  job: string,
): Promise<{ wall: number; mover: number; memory: number; temporal: number }> {
  using watch = watchMemory(() => [installation.pid]);
  const before = ownCpuSeconds(installation.pid);
  const run = await installation.run(job);
  const wall = lasted(run);
  const mover = ownCpuSeconds(installation.pid) - before;
  return { wall, mover, memory: watch.peak(), temporal: await installation.orchestration(run) };
}
