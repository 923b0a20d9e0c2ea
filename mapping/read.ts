import { isCollection, isMap, isPair, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import { GodwitError } from '../errors.ts';
import type { Locate, Path, Problem } from './problems.ts';

export type Read = { readonly value: unknown; readonly locate: Locate };

/**
 * A document's text as plain data, with the place of each path in it. JSON is read as the YAML it is. Whole numbers past
 * 2^53 become their digits as text: nothing is rounded.
 */
export function readText(text: string, file: string | undefined): Read {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, intAsBigInt: true, prettyErrors: false, version: '1.2' });
  const [wrong] = document.errors;
  if (wrong) throw unreadable(wrong.message, file, lines.linePos(wrong.pos[0]));
  let value: unknown;
  try {
    value = plain(document.toJS({ maxAliasCount: 100 }));
  } catch (error) {
    // An alias of nothing, or aliases of aliases without end.
    throw unreadable((error as Error).message, file, { line: 1, col: 1 });
  }
  const place = (offset: number) => {
    const { line, col: column } = lines.linePos(offset);
    return { line, column };
  };
  return {
    value,
    locate: (path, of) => {
      const offset = find(document.contents, path, of);
      return offset === undefined ? undefined : place(offset);
    },
  };
}

function unreadable(message: string, file: string | undefined, { line, col: column }: { line: number; col: number }) {
  const problem: Problem = { path: '', message: `not readable as YAML or JSON: ${message}`, line, column };
  const place = `${file === undefined ? 'line ' : `${file}:`}${line}:${column}`;
  return Object.assign(new GodwitError('MAPPING_INVALID', `${place}: ${problem.message}`), { problems: [problem] });
}

/** The offset of a path's key or value; of its nearest parent when it is not in the text. */
function find(contents: unknown, path: Path, of: 'key' | 'value'): number | undefined {
  let node = contents as Node | null;
  let offset = node?.range?.[0];
  for (const [depth, part] of path.entries()) {
    if (!isCollection(node)) break;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
      if (!isPair(pair)) break;
      const last = depth === path.length - 1;
      const key = pair.key as Node;
      node = pair.value as Node | null;
      offset = (last && of === 'key' ? key.range : (node?.range ?? key.range))?.[0];
    } else {
      node = node.items[Number(part)] as Node | null;
      offset = node?.range?.[0] ?? offset;
    }
  }
  return offset;
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}
