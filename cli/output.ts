import { codes, GodwitError } from '../errors.ts';

export type OutputFormat = 'text' | 'json';

/** Where a verb writes: answers to stdout, what it is doing to stderr. */
export type Output = {
  readonly format: OutputFormat;
  /** stdout is a terminal, and nobody asked for JSON. */
  readonly tty: boolean;
  readonly columns: number;
  /** One line of text; nothing with `--output json`. */
  readonly text: (line?: string) => void;
  /** One JSON line; nothing without `--output json`. */
  readonly json: (value: unknown) => void;
  /** A remark on stderr. */
  readonly say: (line: string) => void;
};

export function makeOutput(format: OutputFormat, stdout = process.stdout, stderr = process.stderr): Output {
  return {
    format,
    tty: format === 'text' && stdout.isTTY === true,
    get columns() {
      return stdout.columns || 120;
    },
    text: (line = '') => {
      if (format === 'text') stdout.write(`${line}\n`);
    },
    json: (value) => {
      if (format === 'json') stdout.write(`${JSON.stringify(value)}\n`);
    },
    say: (line) => {
      stderr.write(`${line}\n`);
    },
  };
}

/** A failure in the user's terms: code, sentence, what to do. */
export function showError(error: GodwitError, out: Output): void {
  const { code, message, where } = error;
  const fix = (error as { fix?: string }).fix ?? codes[code].fix;
  if (out.format === 'json') {
    const problems = (error as { problems?: unknown }).problems;
    out.json({ type: 'error', code, message, where, fix, ...(problems ? { problems } : {}) });
    return;
  }
  out.say(`${code}: ${message}`);
  const places = Object.entries(where).filter(
    ([name, value]) => value !== undefined && !message.includes(String(value)) && name !== 'native',
  );
  if (places.length > 0) out.say(`  where: ${places.map(([name, value]) => `${name} ${value}`).join(', ')}`);
  if (fix) out.say(`  what to do: ${fix}`);
  if (code === 'INTERNAL' && process.env.GODWIT_LOG === 'debug') out.say(String((error.cause as Error)?.stack ?? ''));
}

/** Columns aligned with two spaces between; numbers to the right. */
export function table(rows: readonly (readonly (string | number)[])[], head: readonly string[]): string[] {
  const all = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, i) => Math.max(...all.map((row) => width(row[i] ?? ''))));
  const right = head.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === 'number'));
  return all.map((row) =>
    row
      .map((cell, i) => (right[i] ? pad(cell, widths[i] as number, true) : pad(cell, widths[i] as number)))
      .join('  ')
      .trimEnd(),
  );
}

const width = (text: string): number => [...text].length;
export const pad = (text: string, size: number, right = false): string => {
  const space = ' '.repeat(Math.max(0, size - width(text)));
  return right ? space + text : text + space;
};

export const count = (n: number): string => n.toLocaleString('en-US');
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

export function bytes(n: number): string {
  if (n < 0) return '?';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  let size = n;
  while (size >= 1000 && i < units.length - 1) {
    size /= 1000;
    i++;
  }
  return `${i === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[i]}`;
}

export function duration(milliseconds: number): string {
  const s = Math.max(0, milliseconds / 1000);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
}

export type Colour = 'green' | 'red' | 'yellow' | 'dim' | 'bold';
export type Paint = (text: string, colour: Colour) => string;
const ansi = { green: 32, red: 31, yellow: 33, dim: 2, bold: 1 } as const;
export const painted: Paint = (text, colour) => `\u001b[${ansi[colour]}m${text}\u001b[0m`;
export const plainPaint: Paint = (text) => text;
/** Colours in a terminal, unless NO_COLOR is set. */
export const paintOf = (out: Output): Paint => (out.tty && !process.env.NO_COLOR ? painted : plainPaint);

export const usage = (message: string): GodwitError => new GodwitError('USAGE', message);
