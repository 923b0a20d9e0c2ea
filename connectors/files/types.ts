/** How files hold each logical type. Nothing else decides about types here. */
import type { Column, Fit, Format } from '../contract.ts';
import type { LogicalType } from '../types.ts';

const exact = (shape: 'native' | 'text' | 'json', type: LogicalType, native: string, note?: string): Fit => ({
  fit: 'exact',
  shape,
  type,
  native,
  ...(note ? { note } : {}),
});
const checked = (type: LogicalType, native: string, note?: string): Fit => ({
  fit: 'checked',
  shape: 'native',
  type,
  native,
  ...(note ? { note } : {}),
});
const text = { kind: 'text' } as const;

export const fitOf = (column: Column, format: Format = 'parquet'): Fit =>
  format === 'parquet' ? parquet(column.type) : plain(column.type, format);

function parquet(type: LogicalType): Fit {
  switch (type.kind) {
    case 'bool':
      return exact('native', type, 'BOOLEAN');
    case 'int8':
      return exact('native', type, 'TINYINT');
    case 'int16':
      return exact('native', type, 'SMALLINT');
    case 'int32':
      return exact('native', type, 'INTEGER');
    case 'int64':
      return exact('native', type, 'BIGINT');
    case 'uint64':
      return exact('native', type, 'UBIGINT');
    case 'float32':
      return exact('native', type, 'FLOAT');
    case 'float64':
      return exact('native', type, 'DOUBLE');
    case 'decimal': {
      const { precision, scale = 0 } = type;
      if (precision === undefined)
        return exact('text', text, 'VARCHAR', 'numeric without precision is written as text');
      if (precision > 38 || scale > precision || scale < 0) {
        return exact(
          'text',
          text,
          'VARCHAR',
          `numeric(${precision},${scale}) is past Parquet's 38 digits: written as text`,
        );
      }
      const native = `DECIMAL(${precision},${scale})`;
      return type.nan ? checked(type, native) : exact('native', type, native);
    }
    // Parquet's own UUID type is 16 raw bytes to pandas, Spark and Athena.
    case 'uuid':
    case 'text':
    case 'enum':
      return exact('native', type, 'VARCHAR');
    case 'json':
      return exact('native', type, 'VARCHAR', 'JSON is written as its text');
    case 'bytes':
      return exact('native', type, 'BLOB');
    case 'date':
      return type.wide ? checked(type, 'DATE') : exact('native', type, 'DATE');
    case 'timestamp':
      return type.wide ? checked(type, 'TIMESTAMP') : exact('native', type, 'TIMESTAMP');
    case 'timestamptz':
      return type.wide ? checked(type, 'TIMESTAMPTZ') : exact('native', type, 'TIMESTAMPTZ');
    case 'time':
      // 24:00:00 is a value in PostgreSQL and in no Parquet reader.
      return checked(type, 'TIME');
    case 'interval':
      return exact('text', text, 'VARCHAR', 'Parquet cuts intervals to milliseconds: written as text');
    case 'timetz':
      return exact('text', text, 'VARCHAR', 'Parquet has no time with a zone: written as text');
    case 'array':
      return exact('json', { kind: 'json' }, 'VARCHAR', 'an array is written as JSON text');
    case 'native':
      return exact('text', text, 'VARCHAR');
  }
}

/** CSV and NDJSON hold the exact text of everything. */
function plain(type: LogicalType, format: Format): Fit {
  switch (type.kind) {
    case 'bool':
      return exact('native', type, 'boolean');
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64':
      return exact('native', type, 'number');
    case 'float32':
    case 'float64':
      return exact('native', type, format === 'ndjson' ? 'number, or a string for NaN and infinities' : 'number');
    case 'json':
      return exact('native', type, 'JSON');
    case 'array':
      return exact('json', { kind: 'json' }, 'JSON');
    case 'bytes':
      return exact('native', type, 'text', 'bytes are written as \\x and hexadecimal digits');
    default:
      // By their text form also where the type is known: no date, decimal or uuid can then be misread on the way.
      return exact('text', text, 'text');
  }
}
