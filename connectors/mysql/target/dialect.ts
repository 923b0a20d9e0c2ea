/** What this server calls things: collations and types that the two families of servers, and their ages, have not in common. */

import type { Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { type MysqlExtras, mysqlExtras } from '../extras.ts';
import { atLeast, type Flavor, type Session } from '../session.ts';

export type Dialect = {
  readonly session: Session;
  readonly flavor: Flavor;
  readonly version: Session['version'];
  /** For texts that come from another system. */
  readonly exact: string;
  /** The collation used in place of each one of the source's that is not here. */
  readonly instead: ReadonlyMap<string, string>;
};

/**
 * Of texts that come from another system: every two of them that differ there differ here. With the older `utf8mb4_bin`
 * (MySQL 5.7) two keys that differ only in blanks at their ends are one: the second is refused.
 */
const exactCollation = (session: Session): string =>
  atLeast(session, { mysql: [8, 0, 17] })
    ? 'utf8mb4_0900_bin'
    : atLeast(session, { mariadb: [10, 2] })
      ? 'utf8mb4_nopad_bin'
      : 'utf8mb4_bin';

export async function dialectOf(session: Session, work: Work): Promise<Dialect> {
  const { flavor, version } = session;
  const exact = exactCollation(session);
  const extras = mysqlExtras(work.source);
  const instead = new Map<string, string>();
  for (const collation of extras ? collationsOf(extras) : []) {
    if (await has(session, collation)) continue;
    for (const other of [...relatives(collation), exact]) {
      if (!(await has(session, other))) continue;
      instead.set(collation, other);
      break;
    }
  }
  return { session, flavor, version, exact, instead };
}

const collationsOf = (extras: MysqlExtras): Set<string> =>
  new Set(
    [extras.collation, ...Object.values(extras.columns).map((column) => column.collation)].filter(
      (one) => one !== undefined,
    ),
  );

const unknownCollation = 1273;
const unknownCharset = 1115;
const mismatch = 1253;

async function has(session: Session, collation: string): Promise<boolean> {
  if (!/^[a-z0-9_]+$/i.test(collation)) return false;
  const charset = charsetOf(collation);
  try {
    await session.query(`SELECT _${charset}'' COLLATE ${collation} AS there`);
    return true;
  } catch (error) {
    const number = numberOf(error);
    // An introducer that is none is read as a column's name.
    if (
      number === unknownCollation ||
      number === unknownCharset ||
      number === mismatch ||
      number === 1054 ||
      number === 1064
    )
      return false;
    throw error;
  }
}

export const charsetOf = (collation: string): string => collation.split('_')[0] as string;

/** Those that compare nearly alike, the nearest first. */
function relatives(collation: string): string[] {
  const strength = /_as_cs$/.test(collation) ? 'as_cs' : /_as_ci$/.test(collation) ? 'as_ci' : 'ai_ci';
  const others: string[] = [];
  if (/^utf8mb4_0900_bin$|_nopad_bin$/.test(collation)) others.push('utf8mb4_nopad_bin', 'utf8mb4_0900_bin');
  else if (/_0900_/.test(collation)) others.push(`utf8mb4_uca1400_nopad_${strength}`, 'utf8mb4_unicode_520_nopad_ci');
  else if (/_uca1400_/.test(collation)) others.push(`utf8mb4_0900_${strength}`, 'utf8mb4_unicode_520_ci');
  if (/_nopad/.test(collation)) others.push(collation.replace('_nopad', ''));
  if (collation.startsWith('utf8mb3_')) others.push(collation.replace('utf8mb3_', 'utf8_'));
  if (collation.startsWith('utf8_')) others.push(collation.replace('utf8_', 'utf8mb3_'));
  return others;
}

/** A type of the other family or of a newer server, by one that holds its text; undefined when it is here. */
export function strangeType(spelled: string, { session, flavor }: Dialect): string | undefined {
  const name = spelled.toLowerCase();
  if (name === 'uuid' && !atLeast(session, { mariadb: [10, 7] })) return 'char(36)';
  if (name === 'inet6' && !atLeast(session, { mariadb: [10, 5] })) return 'varchar(45)';
  if (name === 'inet4' && !atLeast(session, { mariadb: [10, 10] })) return 'varchar(15)';
  if (name === 'geomcollection' && flavor === 'mariadb') return 'geometrycollection';
  return undefined;
}
