import { distance } from 'fastest-levenshtein';
import type { z } from 'zod';
import { GodwitError } from '../errors.ts';

export type Path = readonly PropertyKey[];

/** One thing wrong with a mapping. `line` and `column` from 1, for documents given as text. */
export type Problem = {
  /** `tables[0].mode` */
  readonly path: string;
  readonly message: string;
  readonly line?: number;
  readonly column?: number;
};

/** MAPPING_INVALID with everything found wrong at once. */
export type MappingError = GodwitError & { readonly problems: readonly Problem[] };

/** Where a path of the document stands in its text; `key` = the key itself, else its value. */
export type Locate = (path: Path, of: 'key' | 'value') => { line: number; column: number } | undefined;

export const pathText = (path: Path): string =>
  path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    const word = String(part);
    const shown = /^[\w-]+$/.test(word) ? word : JSON.stringify(word);
    return text === '' ? shown : `${text}.${shown}`;
  }, '');

/** The nearest known word, if it is near enough to be what was meant. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const by = (candidate: string) => distance(word.toLowerCase(), candidate.toLowerCase());
  const best = known.toSorted((a, b) => by(a) - by(b))[0];
  return best !== undefined && by(best) <= Math.max(2, Math.floor(word.length / 3)) ? best : undefined;
}

export const didYouMean = (word: string, known: readonly string[]): string => {
  const best = nearest(word, known);
  return best === undefined ? `; known here: ${known.join(', ')}` : `; did you mean "${best}"?`;
};

/** Collects problems while the document is read, so that all are shown at once. */
export type Report = {
  readonly add: (path: Path, message: string, of?: 'key' | 'value') => void;
  /** Parses with one strict object; on failure adds each issue and answers undefined. */
  readonly parse: <S extends z.ZodObject>(schema: S, value: unknown, at: Path) => z.infer<S> | undefined;
  /** Throws when anything was added. */
  readonly end: () => void;
};

export function report(locate: Locate, file: string | undefined): Report {
  const problems: Problem[] = [];
  const add: Report['add'] = (path, message, of = 'value') => {
    problems.push({ path: pathText(path), message, ...locate(path, of) });
  };
  return {
    add,
    parse(schema, value, at) {
      if (value === null || typeof value !== 'object' || Array.isArray(value)) {
        add(at, `expected a map of keys, received ${kind(value)}`);
        return undefined;
      }
      const parsed = schema.safeParse(value);
      if (parsed.success) return parsed.data as z.infer<typeof schema>;
      for (const issue of parsed.error.issues) addIssue(add, schema, issue, value, at);
      return undefined;
    },
    end() {
      if (problems.length === 0) return;
      const lines = problems.map((problem) => line(problem, file));
      const head = lines.length === 1 ? '' : `${lines.length} things are wrong with the mapping:\n`;
      throw Object.assign(new GodwitError('MAPPING_INVALID', head + lines.join('\n')), { problems });
    },
  };
}

function addIssue(add: Report['add'], schema: z.ZodObject, issue: z.core.$ZodIssue, value: object, at: Path) {
  const path = [...at, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    // A nested map says itself what it knows.
    const own = issue.message.startsWith('known here') ? `; ${issue.message}` : '';
    for (const key of issue.keys) {
      const hint = issue.path.length === 0 ? didYouMean(key, Object.keys(schema.shape)) : own;
      add([...path, key], `unknown key "${key}"${hint}`, 'key');
    }
    return;
  }
  const found = issue.path.reduce<unknown>(
    (so, part) => (so as Record<PropertyKey, unknown> | undefined)?.[part],
    value,
  );
  if (found === undefined) return add(path, 'is required');
  const message = issue.message.replace(/^Invalid input: /, '').replace(/^Invalid option: /, '');
  const quotes =
    /expected string/.test(message) && ['number', 'boolean'].includes(typeof found) ? ' (put it in quotes)' : '';
  const near =
    issue.code === 'invalid_value' && typeof found === 'string' ? nearest(found, issue.values.map(String)) : undefined;
  add(path, message + quotes + (near === undefined ? '' : `; did you mean "${near}"?`));
}

const kind = (value: unknown): string =>
  value === undefined ? 'nothing' : value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`;

const line = ({ path, message, line, column }: Problem, file: string | undefined): string => {
  const place = line === undefined ? file : `${file ?? 'line '}${file === undefined ? '' : ':'}${line}:${column}`;
  return [place, path].filter(Boolean).join(' ') + (place || path ? ': ' : '') + message;
};
