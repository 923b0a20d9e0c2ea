/** From the tool before: its mappings, and where it stopped. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { stringify } from 'yaml';
import { parseMapping } from '../../mapping/parse.ts';
import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { type Converted, convert, settingsNotes } from '../import/convert.ts';
import { readPython } from '../import/python.ts';
import { readStateFile, readStateMongo, type Takeover } from '../import/state.ts';
import { type Output, plural, usage } from '../output.ts';
import { reach } from '../reach.ts';

/** `godwit import FILE.py`, or `godwit import --state FILE|URL`. Exit 3 when something is left to be done by hand. */
export async function importOld(context: Context, file?: string): Promise<number> {
  const { state } = context.options;
  if (typeof state === 'string') {
    if (file !== undefined) throw usage('Import a mapping first, apply it, then its state: --state stands alone.');
    return await importState(context, state);
  }
  if (file === undefined) throw usage('Give a Python file of the old tool, or --state.');
  return await importMappings(context, file);
}

async function importMappings({ out, options }: Context, file: string): Promise<number> {
  if (extname(file) !== '.py') throw usage('A Python file ends in .py; YAML and JSON need no import.');
  if (!existsSync(file)) throw usage(`There is no file ${file}.`);
  const old = await readPython(file);
  if (old.mappings.length === 0 && Object.keys(old.settings).length === 0) {
    throw usage(`${file} has no dictionary with a source and tables or collections.`);
  }
  const folder = typeof options.out === 'string' ? options.out : '.';
  let open = 0;
  for (const one of convert(old, basename(file, '.py'))) {
    const problems = one.mapping ? wrongIn(one.mapping) : [];
    open += one.byHand.length + problems.length;
    const written = one.mapping ? write(folder, one, problems, options.force === true) : undefined;
    out.json({ type: 'mapping', name: one.name, file: written ?? null, byHand: [...one.byHand, ...problems] });
    out.text(written ? `${one.name}: written to ${written}` : `${one.name}: not written`);
    tell(out, [...one.byHand, ...problems]);
  }
  for (const line of settingsNotes(old)) out.say(`note: ${line}`);
  if (old.variables.length > 0) {
    out.say(`note: set in your shell before \`godwit apply\`: ${old.variables.join(', ')}`);
  }
  if (open === 0 && old.mappings.length > 0)
    out.text('Next: godwit plan FILE, godwit apply FILE; then godwit import --state (docs/import.md).');
  return open > 0 ? exits.partial : exits.succeeded;
}

const tell = (out: Output, lines: readonly string[]) => {
  for (const line of lines) out.text(`  by hand: ${line}`);
};

/** What the mapping's own reader says of it. */
function wrongIn(mapping: object): string[] {
  try {
    parseMapping(mapping);
    return [];
  } catch (error) {
    const { problems } = error as { problems?: readonly { path: string; message: string }[] };
    if (!problems) throw error;
    return problems.map(({ path, message }) => `${path}: ${message}`);
  }
}

function write(
  folder: string,
  { name, mapping, byHand }: Converted,
  problems: readonly string[],
  force: boolean,
): string {
  const path = join(folder, `${name}.yaml`);
  if (existsSync(path) && !force)
    throw usage(`${path} is there already; write elsewhere with --out, or over it with --force.`);
  mkdirSync(folder, { recursive: true });
  const head = [...byHand, ...problems].map((line) => `# by hand: ${line.replaceAll('\n', ' ')}\n`).join('');
  writeFileSync(path, head + stringify(mapping, { lineWidth: 0 }), { mode: 0o600 });
  return path;
}

type Taken = {
  readonly table: string;
  readonly target: string;
  readonly targetName: string;
  readonly failure?: { code: string; message: string };
};

async function importState({ config, out, options }: Context, from: string): Promise<number> {
  const collection = typeof options.collection === 'string' ? options.collection : 'encryption_store';
  const isMongo = /^mongodb(\+srv)?:\/\//.test(from);
  const { entries, others } = isMongo
    ? await readStateMongo(from, collection)
    : { entries: readStateFile(from), others: 0 };
  if (others > 0)
    out.say(`note: ${plural(others, 'document')} of another form left out (docs/import.md has the form).`);
  if (entries.length === 0) throw usage('There is no table in that state.');
  const only = typeof options.job === 'string' ? options.job : undefined;
  const byJob = Map.groupBy(entries, (entry) => only ?? entry.job ?? '');
  if (byJob.has('')) throw usage('Say which job: --job NAME, or `job` in the state.');
  await using reached = await reach({ config, out });
  let refused = 0;
  for (const [job, tables] of byJob) {
    const body = { tables: tables.map(({ job: _job, ...table }: Takeover) => table) };
    const answer = await reached.client.post<{ tables: Taken[] }>(`/api/jobs/${part(job)}/takeover`, body);
    for (const one of answer.tables) {
      out.json({ type: 'takeover', job, ...one });
      if (one.failure) refused++;
      const outcome = one.failure ? `${one.failure.code}: ${one.failure.message}` : `goes on in ${one.targetName}`;
      out.text(`${job}: ${one.table} → ${one.target}: ${outcome}`);
    }
  }
  return refused > 0 ? exits.partial : exits.succeeded;
}
