import { GodwitError } from '../errors.ts';
import type { JobDocument, TargetUse } from './document.ts';
import { systemOf } from './endpoints.ts';

/** A saved source or target as far as defaults need it: its effective settings (those of its connection included). */
export type Saved = { readonly type: string; readonly settings: Readonly<Record<string, unknown>> };

/** The manual's words: "sql" stands for pgsql; the others for themselves. */
const sourceWord: Readonly<Record<string, string>> = { pgsql: 'sql' };

/** `{source}_{db_name}_dms`, filled in; undefined when the database's name is not known. */
export function schemaDefault(type: string, settings: Saved['settings']): string | undefined {
  const database = settings.db_name ?? (type === 'pgsql' ? settings.username : undefined);
  return typeof database === 'string' ? `${sourceWord[type] ?? type}_${database}_dms` : undefined;
}

/** A database without schemas that is named by the target's own settings. */
export function ownDatabase({ type, settings }: Saved): string | undefined {
  const database = systemOf(type).schemaIsDatabase ? settings.db_name : undefined;
  return typeof database === 'string' && database !== '' ? database : undefined;
}

/** Of table names written without one. Undefined: the source itself knows. */
export function sourceSchema({ type, settings }: Saved): string | undefined {
  const { documents, schemaIsDatabase } = systemOf(type);
  const { schema, db_name: database } = settings;
  if (typeof schema === 'string' && schema !== '' && !documents) return schema;
  if (schemaIsDatabase) return typeof database === 'string' && database !== '' ? database : undefined;
  return type === 'pgsql' ? 'public' : undefined;
}

/** Keys that mean something for documents only, on a source that has none. */
export function refuseDocumentKeys(document: JobDocument, source: Saved): void {
  if (systemOf(source.type).documents) return;
  for (const table of document.tables) {
    const key = table.documents !== undefined ? 'documents' : table.fields !== undefined ? 'fields' : undefined;
    if (key === undefined) continue;
    const sentence = `${table.name}: \`${key}\` is for sources of documents (mongo), and ${document.source} is of type ${source.type}.`;
    throw new GodwitError('MAPPING_INVALID', sentence, { job: document.name, table: table.name });
  }
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
  refuseDocumentKeys(document, source);
  const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
  const fill = (alias: string, use: TargetUse): TargetUse => {
    const saved = targets[alias];
    const own = saved?.settings ?? {};
    const schema =
      text(use.schema) ??
      text(own.schema) ??
      (saved && ownDatabase(saved)) ??
      schemaDefault(source.type, source.settings);
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
