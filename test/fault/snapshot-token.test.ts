import { expect, test } from 'vitest';
import { openSession } from '../../connectors/postgres/session.ts';
import { resolve } from '../../connectors/postgres/settings.ts';
import { openSnapshot } from '../../connectors/postgres/snapshot.ts';
import { beginRead } from '../../connectors/postgres/transaction.ts';
import { startPostgres } from '../../servers/postgres.ts';

/** A restarted server counts its snapshots from the beginning again: the next one gets the very name of the one before. */
test('after a restart of the source the token of the lost snapshot does not open the new one', async () => {
  await using server = await startPostgres();
  const address = resolve({ url: server.url });
  const first = await openSnapshot(address);
  const { token } = first;
  const change = await openSession(address);
  await change.query('CREATE TABLE public.later (id int)');
  await change[Symbol.asyncDispose]();
  await server.restart('immediate');
  await first[Symbol.asyncDispose]();
  await using second = await openSnapshot(address);
  expect(second.token.split(' ')[0]).toBe(token.split(' ')[0]);

  await using reader = await openSession(address);
  await expect(beginRead(reader, { consistency: 'snapshot', token })).rejects.toMatchObject({ code: 'SNAPSHOT_LOST' });
  await using other = await openSession(address);
  await beginRead(other, { consistency: 'snapshot', token: second.token });
});
