/** The demo's mapping: one source, two targets, and a word for each column Parquet cannot hold as it is. */
export const demoJob = 'demo';

export function demoMapping({ postgresUrl, lake }: { postgresUrl: string; lake: string }): object {
  const { hostname, port, username, password } = new URL(postgresUrl);
  const server = { url: `${hostname}:${port}`, username, password };
  return {
    name: demoJob,
    source: { source_type: 'pgsql', ...server, db_name: 'shop' },
    destination: {
      warehouse: { destination_type: 'pgsql', ...server, db_name: 'warehouse', schema: '{schema}' },
      lake: { destination_type: 'files', path: lake, schema: '{schema}', format: 'parquet' },
    },
    tables: [
      // Infinity, BC and NaN: exact in PostgreSQL, written as text where Parquet has no such value.
      { table_name: 'public.every_type', mode: 'replace', on_misfit: 'text' },
      { table_name: 'public.reviews', mode: 'dumping' },
      { table_name: 'public.order_totals', mode: 'replace' },
      { table_name: '*.*', mode: 'replace' },
    ],
  };
}
