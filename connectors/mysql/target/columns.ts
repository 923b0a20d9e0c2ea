/**
 * What a field of pg-text (connectors/contract.ts) becomes on its way into a column, as an expression of the server. Without
 * one the field goes into its column as it is, and the server reads its text.
 */
import type { PlanColumn } from '../../contract.ts';
import { isGeometry } from '../types.ts';

export type Taken = (field: string) => string;

/** `how`: `mended` fields have gone through the Mender, which does the commonest of it; `raw` ones have not. */
export function takenBy(column: PlanColumn, how: 'mended' | 'raw'): Taken | undefined {
  const plain = plainly(column) ?? (how === 'raw' ? unmended(column) : undefined);
  const mend = mending(column);
  if (!mend) return plain;
  return (field) => mend(field, plain ? plain(field) : field);
}

/** Anything else stays what it is, and is refused by the column's type. */
const flag: Taken = (field) => `CASE ${field} WHEN 't' THEN '1' WHEN 'f' THEN '0' ELSE ${field} END`;

/** What the Mender does on the way, said to the server. */
function unmended({ type }: PlanColumn): Taken | undefined {
  if (type.kind === 'bool') return flag;
  return type.kind === 'timestamptz' ? (field) => `TRIM(TRAILING '+00' FROM ${field})` : undefined;
}

const bytes: Taken = (field) => `UNHEX(SUBSTR(${field}, 3))`;

function plainly({ type, native }: PlanColumn): Taken | undefined {
  // A text in a BIT would be its bytes; a year of 0 as text is 2000.
  if (/^(bit|year)\b/.test(native)) return (field) => `CAST(${type.kind === 'bool' ? flag(field) : field} AS UNSIGNED)`;
  switch (type.kind) {
    case 'bytes':
      return bytes;
    case 'native':
      // A geometry comes from MySQL as its own bytes; anything else is shaped as text.
      return isGeometry(/^[a-z]+/i.exec(native)?.[0]?.toLowerCase() ?? '') ? bytes : undefined;
    case 'float32':
      // The shortest text of the largest float is, read as a double, a little larger than it.
      return native.startsWith('float')
        ? (field) =>
            `IF(${field} LIKE '%38' AND ABS(${field}) BETWEEN ${largestFloat} AND 3.4028235677973366e38, IF(LEFT(${field}, 1) = '-', '-${largestFloat}', '${largestFloat}'), ${field})`
        : undefined;
    default:
      return undefined;
  }
}

const largestFloat = '3.4028234663852886e38';
const largest: Readonly<Record<string, string>> = { float32: largestFloat, float64: '1.7976931348623157e308' };

/**
 * What `on_misfit` asks for and no source does: NaN and infinities where the type has none, a text longer than its key.
 * (Sources mend what is outside of years 1 to 9999, and what is not finite in a decimal.)
 */
function mending({
  type,
  native,
  fit,
  misfit,
}: PlanColumn): ((field: string, otherwise: string) => string) | undefined {
  if (fit !== 'checked' || (misfit !== 'null' && misfit !== 'clamp')) return undefined;
  const clamp = misfit === 'clamp';
  switch (type.kind) {
    case 'float32':
    case 'float64': {
      const end = largest[type.kind];
      const near = clamp ? `WHEN 'Infinity' THEN '${end}' WHEN '-Infinity' THEN '-${end}'` : '';
      const none = clamp ? '' : `WHEN 'Infinity' THEN NULL WHEN '-Infinity' THEN NULL`;
      return (field, otherwise) => `CASE ${field} WHEN 'NaN' THEN NULL ${near}${none} ELSE ${otherwise} END`;
    }
    case 'bytes':
    case 'text':
    case 'json': {
      const [, word, length] = /^(varchar|varbinary)\((\d+)\)/.exec(native) ?? [];
      if (word === undefined) return undefined;
      const size = word === 'varchar' ? 'CHAR_LENGTH' : 'LENGTH';
      return (_, otherwise) =>
        clamp ? `LEFT(${otherwise}, ${length})` : `IF(${size}(${otherwise}) > ${length}, NULL, ${otherwise})`;
    }
    default:
      return undefined;
  }
}
