import type { Table, TableSummary } from '../../connectors/contract.ts';
import { tableText } from '../../connectors/contract.ts';
import { typeText } from '../../connectors/types.ts';
import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { table as aligned, bytes, count } from '../output.ts';
import { reach } from '../reach.ts';

/** The tables of a source, or the columns of one of them. */
export async function tables({ config, out }: Context, source = '', name?: string): Promise<undefined> {
  await using reached = await reach({ config, out });
  const path = `/api/sources/${part(source)}/tables`;
  if (name !== undefined) return columns(await reached.client.get<Table>(`${path}/${part(name)}`), out);
  const all = await reached.client.list<TableSummary>(path);
  for (const one of all) out.json(one);
  const rows = all.map((one) => [
    tableText(one.name),
    one.kind,
    one.rows < 0 ? '?' : `~${count(one.rows)}`,
    bytes(one.bytes),
    one.readable ? '' : 'no privilege to read',
  ]);
  // The source's own word.
  const what = all.length > 0 && all.every(({ kind }) => kind === 'collection') ? 'COLLECTION' : 'TABLE';
  for (const line of aligned(rows, [what, 'KIND', 'ROWS', 'SIZE', ''])) out.text(line);
}

function columns(one: Table, out: Context['out']): undefined {
  out.json(one);
  out.text(
    `${tableText(one.name)}: ${one.kind}, ~${count(Math.max(0, one.rows))} rows, ${bytes(one.bytes)}, key ${one.key.join(', ') || 'none'}`,
  );
  const rows = one.columns.map((column) => [
    column.name,
    column.native,
    typeText(column.type),
    column.nullable ? '' : 'not null',
  ]);
  for (const line of aligned(rows, ['COLUMN', 'TYPE', 'LOGICAL', ''])) out.text(line);
}
