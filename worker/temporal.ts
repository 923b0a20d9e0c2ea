import { Client, Connection } from '@temporalio/client';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { NativeConnection } from '@temporalio/worker';
import { searchAttributeNames } from '../activities/workflow-state.ts';
import type { Config } from '../config.ts';
import { GodwitError } from '../errors.ts';
import { createDataConverter } from '../secrets/converter.ts';
import type { Keyring } from '../secrets/keyring.ts';

export type Temporal = AsyncDisposable & {
  readonly connection: NativeConnection;
  readonly client: Client;
  readonly namespace: string;
};

/** Address, namespace, TLS and API key by Temporal's own variables and file; the config's where an embedded one runs. */
export async function connectTemporal(config: Pick<Config, 'temporal'>, keyring: Keyring): Promise<Temporal> {
  const { connectionOptions, namespace: configured } = loadClientConnectConfig();
  const options = { ...connectionOptions, ...(config.temporal.address ? { address: config.temporal.address } : {}) };
  const namespace = process.env.TEMPORAL_NAMESPACE
    ? config.temporal.namespace
    : (configured ?? config.temporal.namespace);
  try {
    const connection = await NativeConnection.connect(options);
    const clientConnection = Connection.lazy({ ...options, connectTimeout: '5s' });
    const client = new Client({ connection: clientConnection, namespace, dataConverter: createDataConverter(keyring) });
    return {
      connection,
      client,
      namespace,
      async [Symbol.asyncDispose]() {
        await clientConnection.close().catch(() => {});
        await connection.close().catch(() => {});
      },
    };
  } catch (error) {
    const at = options.address ?? '127.0.0.1:7233';
    throw new GodwitError('TEMPORAL_UNREACHABLE', `The Temporal server at ${at} does not answer.`, { cause: error });
  }
}

const keyword = 2;

/** Idempotent. A server that refuses (no room, no permission) is fine: runs are then without them (decision 26). */
export async function registerSearchAttributes({ client, namespace }: Temporal): Promise<boolean> {
  try {
    const { operatorService } = client.connection;
    const { customAttributes } = await operatorService.listSearchAttributes({ namespace });
    const missing = searchAttributeNames.filter((name) => !(name in (customAttributes ?? {})));
    if (missing.length === 0) return true;
    const searchAttributes = Object.fromEntries(missing.map((name) => [name, keyword]));
    await operatorService.addSearchAttributes({ namespace, searchAttributes });
    return true;
  } catch {
    return false;
  }
}
