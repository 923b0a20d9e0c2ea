import { Client, Connection } from '@temporalio/client';
import { createCodec } from '../../secrets/codec.ts';
import { openKeyring } from '../../secrets/keyring.ts';
import type { Installation } from '../fault/installation.ts';

export type History = {
  readonly id: string;
  readonly raw: Buffer;
  readonly decoded: Buffer;
  readonly payloads: number;
};

/** Every workflow's history as Temporal stores it, and once more with its payloads opened by the installation's key. */
export async function histories(at: Installation): Promise<History[]> {
  const codec = createCodec(openKeyring({ home: at.folder, key: at.env.GODWIT_KEY as string }));
  const connection = await Connection.connect({ address: at.temporal.address });
  const client = new Client({ connection });
  try {
    const all: History[] = [];
    for await (const { workflowId, runId } of client.workflow.list()) {
      const raw: Buffer[] = [];
      const decoded: Buffer[] = [];
      let payloads = 0;
      const walk = async (value: unknown): Promise<void> => {
        if (value instanceof Uint8Array) raw.push(Buffer.from(value));
        else if (typeof value === 'string') raw.push(Buffer.from(value));
        else if (value && typeof value === 'object') {
          if ('metadata' in value && 'data' in value && value.data instanceof Uint8Array) {
            payloads++;
            for (const opened of await codec.decode([value as never])) decoded.push(Buffer.from(opened.data ?? []));
          }
          for (const inner of Object.values(value)) await walk(inner);
        }
      };
      let nextPageToken: Uint8Array | undefined;
      do {
        const page = await client.workflowService.getWorkflowExecutionHistory({
          namespace: 'default',
          execution: { workflowId, runId },
          nextPageToken,
        });
        await walk(page.history?.events ?? []);
        nextPageToken = page.nextPageToken?.length ? page.nextPageToken : undefined;
      } while (nextPageToken);
      all.push({ id: workflowId, raw: Buffer.concat(raw), decoded: Buffer.concat(decoded), payloads });
    }
    return all;
  } finally {
    await connection.close();
  }
}
