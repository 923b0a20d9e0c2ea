/** The bench's own data: 12 columns, about 190 bytes a row, made by the source server itself. */
import type { Client } from 'pg';

export const columns = `
  id bigint NOT NULL, customer int NOT NULL, title text NOT NULL, amount numeric(12,2) NOT NULL, currency char(3) NOT NULL,
  created_at timestamptz NOT NULL, shipped_at timestamp, note text, paid boolean NOT NULL, quantity int NOT NULL,
  reference uuid NOT NULL, details jsonb NOT NULL`;

/** Makes `table` with a primary key and statistics; the same rows every time. */
export async function fill(client: Client, table: string, rows: number): Promise<void> {
  await client.query(`DROP TABLE IF EXISTS ${table}`);
  await client.query(`CREATE TABLE ${table} (${columns})`);
  await client.query(`
    INSERT INTO ${table}
    SELECT i, i % 100003, 'order ' || md5(i::text), (i % 1000000)::numeric / 100, (ARRAY['EUR','USD','INR'])[1 + i % 3],
      timestamptz '2020-01-01' + i * interval '1 second 1 microsecond',
      CASE WHEN i % 7 = 0 THEN NULL ELSE timestamp '2020-01-02' + i * interval '2 seconds' END,
      CASE WHEN i % 5 = 0 THEN NULL ELSE 'deliver to the back door, ask for ' || i END, i % 2 = 0, i % 17,
      md5('r' || i)::uuid, jsonb_build_object('n', i, 'tag', 't' || i % 11)
    FROM generate_series(1, ${rows}) i`);
  await client.query(`ALTER TABLE ${table} ADD PRIMARY KEY (id)`);
  await client.query(`VACUUM (ANALYZE, FREEZE) ${table}`);
  await client.query('CHECKPOINT');
}

/** The same columns in MySQL. */
export const mysqlColumns = `
  id bigint NOT NULL, customer int NOT NULL, title text NOT NULL, amount decimal(12,2) NOT NULL, currency char(3) NOT NULL,
  created_at datetime(6) NOT NULL, shipped_at datetime(6), note text, paid tinyint(1) NOT NULL, quantity int NOT NULL,
  reference char(36) NOT NULL, details json NOT NULL`;
