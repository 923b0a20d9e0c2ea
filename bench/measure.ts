/** Measuring whole process trees by the kernel's own books (/proc); Linux only. */
import { readdirSync, readFileSync } from 'node:fs';

const ticksPerSecond = 100;

type Stat = { readonly pid: number; readonly parent: number; readonly cpu: number; readonly reaped: number };

function stat(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const at = (i: number) => fields[i - 3] ?? 0; // field numbers of proc(5); field 3 comes first
    return { pid, parent: at(4), cpu: at(14) + at(15), reaped: at(16) + at(17) };
  } catch {
    return undefined;
  }
}

/** The process and everything below it, alive now. */
export function tree(root: number): number[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => stat(Number(name)))
    .filter((entry) => entry !== undefined);
  const children = Map.groupBy(all, (entry) => entry.parent);
  const found: number[] = [];
  const visit = (pid: number) => {
    found.push(pid);
    for (const child of children.get(pid) ?? []) visit(child.pid);
  };
  visit(root);
  return found;
}

/** CPU seconds of one process alone. */
export const ownCpuSeconds = (pid: number): number => (stat(pid)?.cpu ?? 0) / ticksPerSecond;

/** CPU seconds of all children of this process that ended and were waited for, with theirs. */
export const endedCpuSeconds = (): number => (stat(process.pid)?.reaped ?? 0) / ticksPerSecond;

/** CPU seconds used so far by a process tree, children that ended and were waited for included. */
export const cpuSeconds = (root: number): number =>
  tree(root).reduce((sum, pid) => {
    const entry = stat(pid);
    return sum + (entry ? entry.cpu + entry.reaped : 0);
  }, 0) / ticksPerSecond;

/** Bytes of resident memory, a shared page counted by its share (PSS). */
function memory(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    try {
      const pss = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
      sum += Number(pss?.[1] ?? 0) * 1024;
    } catch {
      // ended meanwhile
    }
  }
  return sum;
}

/** Watches processes' memory until disposed; `peak()` is the high-water mark in bytes. */
export function watchMemory(pids: () => readonly number[], everyMs = 100) {
  let peak = memory(pids());
  const timer = setInterval(() => {
    peak = Math.max(peak, memory(pids()));
  }, everyMs);
  return { peak: () => peak, [Symbol.dispose]: () => clearInterval(timer) };
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? (sorted[middle] ?? Number.NaN) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
};

export const seconds = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};
