/** Types: what a column's type resolves to, and the user types to be made before a table, in order. */
import type { LogicalType } from '../types.ts';
import type { TypeRow } from './catalog.ts';
import type { PostgresUserType } from './extras.ts';
import { ident, literal, tableIdent } from './sql.ts';
import { logical, type NativeType } from './types.ts';

export type TypeBook = {
  readonly byOid: ReadonlyMap<number, TypeRow>;
};

export const typeBook = (rows: readonly TypeRow[]): TypeBook => ({ byOid: new Map(rows.map((row) => [row.oid, row])) });

/** Through all domains: the type values are stored as, with the modifier the innermost domain gives. */
export function resolved(
  book: TypeBook,
  oid: number,
  typmod: number,
): { type: TypeRow; typmod: number; domain: boolean } {
  let type = book.byOid.get(oid);
  let modifier = typmod;
  let domain = false;
  while (type?.kind === 'd') {
    domain = true;
    modifier = type.typmod;
    type = book.byOid.get(type.base);
  }
  if (!type) throw new Error(`type ${oid} was dropped while it was described`);
  return { type, typmod: modifier, domain };
}

export function logicalOf(book: TypeBook, oid: number, typmod: number): LogicalType {
  return logical(nativeType(book, oid, typmod));
}

function nativeType(book: TypeBook, oid: number, typmod: number): NativeType {
  const { type, typmod: modifier } = resolved(book, oid, typmod);
  return {
    schema: type.schema,
    name: type.name,
    typmod: modifier,
    kind: type.kind,
    labels: type.labels ?? undefined,
    element: type.array ? nativeType(book, type.element, modifier) : undefined,
  };
}

/**
 * Built-in types whose binary form is the same on every server from 13 on (decision 19). Not here: money (its scale
 * follows lc_monetary), reg* and aclitem (oids), xml (declares an encoding), tsquery, and whatever nobody asked for.
 */
const stable = new Set(
  (
    'bool bytea char name int2 int4 int8 oid float4 float8 numeric text varchar bpchar json jsonb uuid ' +
    'date time timetz timestamp timestamptz interval bit varbit inet cidr macaddr macaddr8 ' +
    'point line lseg box path polygon circle tsvector ' +
    'int4range int8range numrange tsrange tstzrange daterange ' +
    'int4multirange int8multirange nummultirange tsmultirange tstzmultirange datemultirange'
  ).split(' '),
);

/**
 * May this type travel as COPY BINARY? An enum is its label; a domain is its base. An array names its element's oid, and
 * a composite those of its fields: theirs must be built in, and composites stay out altogether.
 */
export function binary(book: TypeBook, oid: number): boolean {
  const { type } = resolved(book, oid, -1);
  if (type.kind === 'e') return true;
  if (type.schema !== 'pg_catalog') return false;
  if (!type.array) return stable.has(type.name);
  const element = book.byOid.get(type.element);
  return element?.schema === 'pg_catalog' && stable.has(element.name);
}

/** The user types behind these column types, each after what it needs; and the extensions that own the others. */
export function userTypes(book: TypeBook, oids: readonly number[]) {
  const types: PostgresUserType[] = [];
  const extensions = new Map<string, string>();
  const seen = new Set<number>();
  const visit = (oid: number): void => {
    const type = book.byOid.get(oid);
    if (!type || seen.has(oid)) return;
    seen.add(oid);
    if (type.extension) {
      extensions.set(type.extension, type.extension_schema ?? 'public');
      return;
    }
    for (const part of [type.element, type.base, type.range?.subtype ?? 0]) if (part) visit(part);
    for (const attribute of type.attributes ?? []) visit(attribute.type);
    if (type.kind === 'm') {
      for (const [of, range] of book.byOid) {
        if (range.range?.multirange?.schema === type.schema && range.range.multirange.name === type.name) visit(of);
      }
    }
    const defined = type.schema === 'pg_catalog' || type.array ? undefined : define(type);
    if (defined) types.push(defined);
  };
  for (const oid of oids) visit(oid);
  return { types, extensions: [...extensions].map(([name, schema]) => ({ name, schema })) };
}

function define(type: TypeRow): PostgresUserType | undefined {
  const base = { name: { schema: type.schema, name: type.name }, comment: type.comment ?? undefined };
  const collate = (collation: string | null): string => (collation ? ` COLLATE ${collation}` : '');
  switch (type.kind) {
    case 'e': {
      const labels = type.labels ?? [];
      return {
        ...base,
        kind: 'enum',
        definition: `AS ENUM (${labels.map((l) => literal(l).trim()).join(', ')})`,
        labels,
      };
    }
    case 'd': {
      const checks = (type.checks ?? [])
        .map((check) => ` CONSTRAINT ${ident(check.name)} ${check.definition}`)
        .join('');
      const byDefault = type.default === null ? '' : ` DEFAULT ${type.default}`;
      const notNull = type.not_null ? ' NOT NULL' : '';
      const definition = `AS ${type.native_base}${collate(type.collation)}${byDefault}${notNull}${checks}`;
      return { ...base, kind: 'domain', definition };
    }
    case 'c': {
      const fields = (type.attributes ?? []).map((a) => `${ident(a.name)} ${a.native}${collate(a.collation)}`);
      const obstacle = type.relation_kind === 'c' ? undefined : 'it is the row type of a table';
      return { ...base, kind: 'composite', definition: `AS (${fields.join(', ')})`, obstacle };
    }
    case 'r': {
      const { range } = type;
      if (!range) return undefined;
      const parts = [
        `subtype = ${range.native}`,
        range.opclass && `subtype_opclass = ${range.opclass}`,
        range.collation && `collation = ${range.collation}`,
        range.diff && `subtype_diff = ${range.diff}`,
        range.multirange && `multirange_type_name = ${tableIdent(range.multirange)}`,
      ].filter(Boolean);
      const obstacle = range.canonical ? 'it has a canonical function of its own' : undefined;
      const multirange = range.multirange ?? undefined;
      return { ...base, kind: 'range', definition: `AS RANGE (${parts.join(', ')})`, multirange, obstacle };
    }
    case 'm':
      return undefined; // comes with its range
    default:
      return { ...base, kind: 'composite', definition: '', obstacle: 'it is a base type written in C' };
  }
}
