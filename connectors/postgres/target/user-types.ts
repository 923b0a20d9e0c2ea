/** User types a table needs, made on the target as the source has them, under the same names. */
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import { typesOf } from '../catalog.ts';
import { type PostgresUserType, postgresExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { literal, tableIdent } from '../sql.ts';
import { typeBook, userTypes } from '../user-types.ts';

/** Those of the work's columns; a column left out may leave a type unused, which does no harm. */
export const neededTypes = (work: Work): readonly PostgresUserType[] => postgresExtras(work.source)?.types ?? [];

const nameOf = (type: PostgresUserType): string => `${type.name.schema}.${type.name.name}`;

export type TypePlan = {
  readonly missing: readonly PostgresUserType[];
  /** Statements that add labels to enums that lack some. */
  readonly widen: readonly string[];
  readonly refusals: readonly GodwitError[];
};

/** What must be made, and what stands in the way: a type of that name that is another one. */
export async function planTypes(session: Session, work: Work): Promise<TypePlan> {
  const needed = neededTypes(work);
  if (needed.length === 0) return { missing: [], widen: [], refusals: [] };
  const found = await existing(session, needed);
  const missing: PostgresUserType[] = [];
  const widen: string[] = [];
  const refusals: GodwitError[] = [];
  const where = { table: tableText(work.name), target: work.target };
  for (const type of needed) {
    const there = found.get(nameOf(type));
    if (!there) {
      if (type.obstacle === undefined) missing.push(session.version < 14 ? rangeAlone(type) : type);
      else {
        const message = `Type ${nameOf(type)} does not exist on the target and cannot be made there: ${type.obstacle}.`;
        refusals.push(new GodwitError('TYPE_REFUSED', message, where));
      }
    } else if (type.kind === 'enum' && there.kind === 'enum') {
      const added = labelsToAdd(type, there.labels ?? []);
      if (added) widen.push(...added);
      else refusals.push(differs(type, where));
    } else if (!same(type, there)) refusals.push(differs(type, where));
  }
  return { missing, widen, refusals };
}

/** Multiranges came with 14: a server before it has the range alone, and the next one names the multirange by itself. */
const rangeAlone = (type: PostgresUserType): PostgresUserType => {
  const { multirange, definition, ...rest } = type;
  if (!multirange) return type;
  return { ...rest, definition: definition.replace(`, multirange_type_name = ${tableIdent(multirange)}`, '') };
};

const same = (type: PostgresUserType, there: PostgresUserType): boolean =>
  type.multirange && there.multirange
    ? type.definition === there.definition
    : rangeAlone(type).definition === rangeAlone(there).definition;

const differs = (type: PostgresUserType, where: { table: string; target: string }): GodwitError =>
  new GodwitError(
    'TARGET_DIFFERS',
    `Type ${nameOf(type)} exists on the target with another definition than at the source.`,
    where,
  );

async function existing(session: Session, needed: readonly PostgresUserType[]): Promise<Map<string, PostgresUserType>> {
  const rows = await session.query<{ oid: number }>(
    `SELECT t.oid FROM unnest($1::text[], $2::text[]) AS want(schema, name)
     JOIN pg_namespace n ON n.nspname = want.schema JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = want.name`,
    [needed.map((type) => type.name.schema), needed.map((type) => type.name.name)],
  );
  if (rows.length === 0) return new Map();
  const oids = rows.map((row) => row.oid);
  const { types } = userTypes(typeBook(await typesOf(session, oids)), oids);
  return new Map(types.map((type) => [nameOf(type), type]));
}

/** Both orders must agree on the labels they share; else undefined. Values compare as at the source then. */
function labelsToAdd(type: PostgresUserType, there: readonly string[]): string[] | undefined {
  const wanted = type.labels ?? [];
  const shared = wanted.filter((label) => there.includes(label));
  const sharedThere = there.filter((label) => wanted.includes(label));
  if (shared.some((label, i) => label !== sharedThere[i])) return undefined;
  const statements: string[] = [];
  const have = new Set(there);
  wanted.forEach((label, i) => {
    if (have.has(label)) return;
    const before = wanted[i - 1];
    const next = wanted.slice(i + 1).find((other) => have.has(other));
    const place =
      before !== undefined ? ` AFTER ${literal(before)}` : next !== undefined ? ` BEFORE ${literal(next)}` : '';
    statements.push(`ALTER TYPE ${tableIdent(type.name)} ADD VALUE IF NOT EXISTS ${literal(label)}${place}`);
    have.add(label);
  });
  return statements;
}

export const createType = (type: PostgresUserType): string => {
  const name = tableIdent(type.name);
  const kind = type.kind === 'domain' ? 'DOMAIN' : 'TYPE';
  const comment = type.comment === undefined ? '' : `; COMMENT ON ${kind} ${name} IS ${literal(type.comment)}`;
  return `CREATE ${kind} ${name} ${type.definition}${comment}`;
};
