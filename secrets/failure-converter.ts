/** Loaded by name: by the client and, bundled, by workflows. Messages and stacks become payloads, which the codec encrypts. */
import { DefaultFailureConverter } from '@temporalio/common';

export const failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });
