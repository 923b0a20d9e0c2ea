/**
 * The columns of the table that receives the rows. Coming from PostgreSQL a staging has the source's own column names,
 * because definitions (generated columns, checks, indexes) speak of them; a mapping's new names are given at the end, when
 * the server changes all definitions by itself.
 */
import { type PlanColumn, swapsIn, type Work } from '../../contract.ts';
import { type PostgresColumn, type PostgresExtras, postgresExtras } from '../extras.ts';
import { ident } from '../sql.ts';

export type LaidColumn = {
  /** While the rows arrive. */
  readonly name: string;
  /** In the published table. */
  readonly final: string;
  readonly native: string;
  readonly notNull: boolean;
  readonly plan?: PlanColumn;
  /** What only PostgreSQL knows of the source's column. */
  readonly special?: PostgresColumn;
  readonly comment?: string;
};

/** All columns in the source's order; what a mapping adds comes last. */
export function layout(work: Work): LaidColumn[] {
  const extras = postgresExtras(work.source);
  const laid = new Map<string, LaidColumn>();
  for (const plan of work.columns) {
    const special = plan.from === undefined ? undefined : extras?.columns[plan.from];
    const name = extras && plan.from !== undefined ? plan.from : plan.name;
    const comment = work.source.columns.find((column) => column.name === plan.from)?.comment;
    laid.set(name, { name, final: plan.name, native: plan.native, notNull: !plan.nullable, plan, special, comment });
  }
  if (!extras) return [...laid.values()];
  // Generated columns do not travel: the table computes them itself.
  const taken = new Set(work.columns.map((column) => column.name));
  const ordered: LaidColumn[] = [];
  for (const column of work.source.columns) {
    const found = laid.get(column.name);
    const special = extras.columns[column.name];
    if (found) ordered.push(found);
    else if (special?.generated && !taken.has(column.name)) {
      const { name, native, comment } = column;
      ordered.push({ name, final: name, native, notNull: !column.nullable, special, comment });
    }
  }
  const added = [...laid.values()].filter((column) => !ordered.includes(column));
  return [...ordered, ...added];
}

/** Columns of the stream, in its order, by their names while the rows arrive. */
export function loadedNames(work: Work): string[] {
  if (!swapsIn(work)) return work.columns.map((column) => column.name);
  const names = new Map(layout(work).map((column) => [column.plan, column.name]));
  return work.columns.map((column) => names.get(column) ?? column.name);
}

/** `"name" type COLLATE … NOT NULL GENERATED …`, for a server of this version. */
export function columnSql(column: LaidColumn, version: number): string {
  const { special } = column;
  const generated = special?.generated;
  // Older servers keep what a newer one would compute when read.
  const kind = generated?.kind === 'virtual' && version >= 18 ? 'VIRTUAL' : 'STORED';
  return [
    ident(column.name),
    column.native,
    special?.collation && `COLLATE ${special.collation}`,
    generated && `GENERATED ALWAYS AS (${generated.expression}) ${kind}`,
    column.notNull && 'NOT NULL',
  ]
    .filter(Boolean)
    .join(' ');
}

/** Does every column that moves at the source move here? Then nothing a definition speaks of can be missing. */
export const isWhole = (work: Work, extras: PostgresExtras): boolean => {
  const moved = new Set(work.columns.map((column) => column.from));
  return Object.entries(extras.columns).every(([name, column]) => column.generated || moved.has(name));
};

/** Columns that get another name at the end, as statements; by way of names nobody has where two change places. */
export function renames(table: string, columns: readonly LaidColumn[]): string[] {
  const changed = columns.filter((column) => column.name !== column.final);
  const occupied = new Set(columns.map((column) => column.name));
  const clash = changed.some((column) => occupied.has(column.final));
  const rename = (from: string, to: string) => `ALTER TABLE ${table} RENAME COLUMN ${ident(from)} TO ${ident(to)}`;
  if (!clash) return changed.map((column) => rename(column.name, column.final));
  return [
    ...changed.map((column, i) => rename(column.name, `godwit ${i}`)),
    ...changed.map((column, i) => rename(`godwit ${i}`, column.final)),
  ];
}
