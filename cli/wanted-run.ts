/** The options of `godwit run` that say what this run does, as the API's body. */
import type { Predicate } from '../connectors/contract.ts';
import { usage } from './output.ts';

export type WantedRun = {
  readonly tables?: readonly string[];
  readonly full?: boolean;
  readonly from?: string;
  readonly to?: string;
  readonly where?: readonly Predicate[];
  readonly cutOff?: string;
};

/** Throws USAGE before anybody is asked. */
export function wantedRun(options: Readonly<Record<string, unknown>>): WantedRun {
  const { table, full, from, to, where, cutOff } = options as {
    table?: string[];
    full?: boolean;
    from?: string;
    to?: string;
    where?: string[];
    cutOff?: string;
  };
  const part = from !== undefined || to !== undefined || where !== undefined;
  if (full && part) throw usage('--full loads the table again as a whole; give it, or --from, --to and --where.');
  if (where && (from !== undefined || to !== undefined)) {
    throw usage('Give a range (--from, --to) or --where, not both.');
  }
  return {
    ...(table ? { tables: table } : {}),
    ...(full ? { full } : {}),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(where ? { where: where.map(predicate) } : {}),
    ...(cutOff === undefined ? {} : { cutOff }),
  };
}

/** `status=open`, `id>=100`, `country in DE,IN`, `deleted_at is null`. The source compares, so values stay texts. */
export function predicate(text: string): Predicate {
  const empty = /^\s*(\S+)\s+is\s+(not\s+)?null\s*$/i.exec(text);
  if (empty) return { column: empty[1] as string, op: empty[2] ? 'is not null' : 'is null', values: [] };
  const list = /^\s*(\S+)\s+in\s+(.+)$/i.exec(text);
  if (list)
    return { column: list[1] as string, op: 'in', values: (list[2] as string).split(',').map((one) => one.trim()) };
  const [, column, op, value] = /^\s*([^=<>]+?)\s*(<=|>=|=|<|>)\s*(.*)$/s.exec(text) ?? [];
  if (!column || !op || value === undefined) {
    throw usage('--where is col=value, col>=value, col in a,b or col is null.');
  }
  return { column, op: op as Predicate['op'], values: [value] };
}

/** An option that may be given several times. */
export const several = (one: string, all: string[] = []): string[] => [...all, one];
