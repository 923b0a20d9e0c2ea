/** Pieces of table definitions, from how information_schema shows them to how they are written. */
import type { ColumnRow, PartitionRow } from './catalog.ts';
import type { Session } from './session.ts';
import { ident, literal } from './sql.ts';

/** MySQL shows expressions as they would stand in a literal, MariaDB as they are. */
export const plainText = (expression: string, { flavor }: Pick<Session, 'flavor'>): string =>
  flavor === 'mysql' ? expression.replace(/\\(.)/gs, (_, char: string) => escapes[char] ?? char) : expression;

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', 0: '\0', Z: '\x1a' };

const now = /^(current_timestamp|now|localtime|localtimestamp)(\(\d*\))?$/i;

/**
 * What may stand behind DEFAULT. MySQL shows a literal's raw text and says in `extra` what is an expression; MariaDB shows
 * what was written.
 */
export function defaultOf(
  row: Pick<ColumnRow, 'default' | 'extra' | 'type' | 'spelled'>,
  session: Session,
): string | undefined {
  const { default: shown } = row;
  if (shown === null) return undefined;
  if (session.flavor === 'mariadb') {
    if (shown === 'NULL') return undefined;
    const simple = /^(-?[\d.]+(e[+-]?\d+)?|b?'(?:[^'\\]|''|\\.)*')$/is.test(shown) || now.test(shown);
    return simple ? shown : `(${shown})`;
  }
  if (/DEFAULT_GENERATED/.test(row.extra)) return now.test(shown) ? shown : `(${plainText(shown, session)})`;
  const type = row.type.toLowerCase();
  if ((type === 'timestamp' || type === 'datetime') && now.test(shown)) return shown;
  if (type === 'bit') return shown;
  if (/^(var)?binary$/.test(type) && /^0x([0-9a-f]{2})*$/i.test(shown)) return shown === '0x' ? "''" : shown;
  return literal(shown);
}

/** `PARTITION BY …`; undefined for a table without partitions, and for those by system time. */
export function partitioningOf(rows: readonly PartitionRow[], session: Session): string | undefined {
  const first = rows[0];
  if (!first || first.method === 'SYSTEM_TIME') return undefined;
  const text = (expression: string | null) => plainText(expression ?? '', session);
  const by = `PARTITION BY ${first.method} (${text(first.expression)})`;
  const sub = first.subMethod
    ? ` SUBPARTITION BY ${first.subMethod} (${text(first.subExpression)}) SUBPARTITIONS ${first.subPartitions}`
    : '';
  const parts = rows.map((row) => {
    const description = text(row.description);
    const values =
      row.description === null
        ? ''
        : description === 'DEFAULT'
          ? ' DEFAULT'
          : row.method.startsWith('RANGE')
            ? ` VALUES LESS THAN (${description})`
            : ` VALUES IN (${description})`;
    const comment = row.comment ? ` COMMENT = ${literal(row.comment)}` : '';
    return `PARTITION ${ident(row.name)}${values}${comment}`;
  });
  return `${by}${sub} (${parts.join(', ')})`;
}
