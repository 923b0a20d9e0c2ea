import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { table } from '../output.ts';
import { reach } from '../reach.ts';

type SettingView = {
  readonly name: string;
  readonly value: unknown;
  readonly from: string;
  readonly stored?: unknown;
  readonly note?: string;
};

/** What holds and who says so; with the names of the mapping manual, and where Godwit has those. */
export async function list({ config, out }: Context): Promise<undefined> {
  await using reached = await reach({ config, out });
  const { items } = await reached.client.get<{ items: SettingView[] }>('/api/settings');
  for (const one of items) out.json({ type: 'setting', ...one });
  const own = items.filter(({ from }) => from !== 'elsewhere');
  for (const line of table(
    own.map(({ name, value, from, note, stored }) => [
      name,
      note ?? shown(value),
      from,
      stored === undefined ? '' : `the API stored ${shown(stored)}`,
    ]),
    ['SETTING', 'VALUE', 'FROM', ''],
  ))
    out.text(line);
  out.text();
  out.text("Of the mapping manual's settings, Godwit has these elsewhere:");
  for (const { name, note } of items.filter(({ from }) => from === 'elsewhere')) out.text(`  ${name}: ${note}`);
}

const shown = (value: unknown): string =>
  value === null ? 'none' : typeof value === 'string' ? value : JSON.stringify(value);

/** `true`, `false`, `null`, `none` and JSON are read as such; `a,b` as a list; all else is text. */
export async function set({ config, out }: Context, name = '', text = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  const now = await reached.client.put<SettingView>(`/api/settings/${part(name)}`, { value: read(name, text) });
  out.json({ type: 'setting', ...now });
  out.text(
    now.from === 'api'
      ? `${name} is ${shown(now.value)}.`
      : `Stored; but the ${now.from === 'file' ? 'settings file' : now.from} says ${shown(now.value)}, and comes first.`,
  );
}

function read(name: string, text: string): unknown {
  if (name === 'cut_off_time') return text === 'none' || text === 'null' ? null : text;
  if (name !== 'notify') return text;
  if (/^\s*[[{]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  if (text === 'true' || text === 'false') return text === 'true';
  return text.split(',').map((word) => word.trim());
}

export async function unset({ config, out }: Context, name = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  await reached.client.delete(`/api/settings/${part(name)}`);
  out.json({ type: 'removed', kind: 'setting', name });
  out.text(`Removed what was stored of ${name}.`);
}
