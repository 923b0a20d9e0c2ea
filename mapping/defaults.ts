import { GodwitError } from '../errors.ts';
import type { JobDocument, TargetUse } from './document.ts';

/** A saved source or target as far as defaults need it: its effective settings (those of its connection included). */
export type Saved = { readonly type: string; readonly settings: Readonly<Record<string, unknown>> };

/** The manual's words: "sql" stands for pgsql. */
const sourceWord: Readonly<Record<string, string>> = { pgsql: 'sql' };

/** `{source}_{db_name}_dms`, filled in; undefined when the database's name is not known. */
export function schemaDefault(type: string, settings: Saved['settings']): string | undefined {
  const database = settings.db_name ?? settings.username;
  return typeof database === 'string' ? `${sourceWord[type] ?? type}_${database}_dms` : undefined;
}

/**
 * Fills in what the mapping left to saved sources and targets: the target's own `schema`, `table`, `format` and
 * `s3_suffix`, else the schema's default from the source. Throws MAPPING_INVALID when nothing says the schema.
 */
export function fillDefaults(
  document: JobDocument,
  source: Saved,
  targets: Readonly<Record<string, Saved | undefined>>,
): JobDocument {
  const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
  const fill = (alias: string, use: TargetUse): TargetUse => {
    const own = targets[alias]?.settings ?? {};
    const schema = text(use.schema) ?? text(own.schema) ?? schemaDefault(source.type, source.settings);
    if (schema === undefined) {
      const sentence = `destination.${alias}.schema: is required, because the source's database name is not known for its default \`{source}_{db_name}_dms\``;
      throw new GodwitError('MAPPING_INVALID', sentence, { job: document.name, target: alias });
    }
    const format = use.format ?? (text(own.format) as TargetUse['format']);
    const suffix = use.suffix ?? text(own.s3_suffix);
    return { ...use, schema, ...(format ? { format } : {}), ...(suffix ? { suffix } : {}) };
  };
  return {
    ...document,
    targets: Object.fromEntries(Object.entries(document.targets).map(([alias, use]) => [alias, fill(alias, use)])),
  };
}
