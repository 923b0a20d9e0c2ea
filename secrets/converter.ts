import { fileURLToPath } from 'node:url';
import type { DataConverter } from '@temporalio/common';
import { createCodec } from './codec.ts';
import type { Keyring } from './keyring.ts';

/** Also for `bundleWorkflowCode`, when workflows are bundled beforehand. */
export const failureConverterPath = fileURLToPath(new URL('./failure-converter.ts', import.meta.url));

/** The same for every client and worker: payloads and failures encrypted. */
export const createDataConverter = (keyring: Keyring): DataConverter => ({
  failureConverterPath,
  payloadCodecs: [createCodec(keyring)],
});
