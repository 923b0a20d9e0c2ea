import { type TableName, tableText, type Work } from '../../connectors/contract.ts';

/**
 * What must become visible together: tables of one target that foreign keys join, when they are replaced. Those are carried
 * only to a target of the same system, `carries`.
 */
export function components(works: readonly (Work | undefined)[], carries: (work: Work) => boolean): number[] {
  const joins = (work: Work) => work.mode === 'replace' && carries(work);
  const parent = works.map((_, i) => i);
  const root = (i: number): number => {
    let at = i;
    while (parent[at] !== at) at = parent[at] as number;
    return at;
  };
  const place = (target: string, name: TableName) => `${target}\n${tableText(name)}`;
  const places = new Map<string, number>();
  works.forEach((work, i) => {
    if (work && joins(work)) places.set(place(work.target, work.source.name), i);
  });
  works.forEach((work, i) => {
    if (!work || !joins(work)) return;
    for (const name of work.source.references) {
      const other = places.get(place(work.target, name));
      if (other !== undefined) parent[root(i)] = root(other);
    }
  });
  const numbers = new Map<number, number>();
  return works.map((_, i) => {
    const at = root(i);
    if (!numbers.has(at)) numbers.set(at, numbers.size + 1);
    return numbers.get(at) as number;
  });
}
