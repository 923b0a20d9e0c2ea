import type { Payload, PayloadCodec } from '@temporalio/common';
import { GodwitError } from '../errors.ts';
import type { Keyring } from './keyring.ts';
import { decrypt, encrypt } from './seal.ts';

const encoding = 'binary/encrypted';
const aad = Buffer.from('godwit temporal payload');
const text = (value: Uint8Array | null | undefined): string => Buffer.from(value ?? []).toString('utf8');

/**
 * Everything that goes to Temporal, encrypted (AES-256-GCM); the key's id stands in the metadata. The
 * data is nonce (12) · tag (16) · text. Plain payloads pass `decode` untouched.
 */
export const createCodec = (keyring: Keyring): PayloadCodec => ({
  encode: async (payloads) => payloads.map((payload) => encode(payload, keyring)),
  decode: async (payloads) => payloads.map((payload) => decode(payload, keyring)),
});

function encode(payload: Payload, keyring: Keyring): Payload {
  const { nonce, tag, text: body } = encrypt(keyring.key, pack(payload), aad);
  return {
    metadata: { encoding: Buffer.from(encoding), 'encryption-key-id': Buffer.from(keyring.id) },
    data: Buffer.concat([nonce, tag, body]),
  };
}

function decode(payload: Payload, keyring: Keyring): Payload {
  if (text(payload.metadata?.encoding) !== encoding) return payload;
  const keyId = text(payload.metadata?.['encryption-key-id']);
  if (keyId !== keyring.id) {
    const message = `A payload in Temporal was sealed with key ${keyId}, but this process has key ${keyring.id}.`;
    throw new GodwitError('SECRET_UNREADABLE', message);
  }
  const data = Buffer.from(payload.data ?? []);
  try {
    const sealed = { nonce: data.subarray(0, 12), tag: data.subarray(12, 28), text: data.subarray(28) };
    return unpack(decrypt(keyring.key, sealed, aad));
  } catch (error) {
    throw new GodwitError('SECRET_UNREADABLE', 'A payload in Temporal was changed.', { cause: error });
  }
}

// A payload as bytes: length of the metadata's JSON (4 bytes), the JSON (values in base64), the data.
function pack({ metadata, data }: Payload): Buffer {
  const entries = Object.entries(metadata ?? {}).map(([key, value]) => [
    key,
    Buffer.from(value ?? []).toString('base64'),
  ]);
  const head = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(head.length);
  // A payload without data, from a workflow, has an empty array there.
  return Buffer.concat([length, head, Buffer.from(data ?? [])]);
}

function unpack(bytes: Buffer): Payload {
  const end = 4 + bytes.readUInt32BE(0);
  const metadata = JSON.parse(bytes.subarray(4, end).toString('utf8')) as Record<string, string>;
  return {
    metadata: Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, Buffer.from(value, 'base64')])),
    data: new Uint8Array(bytes.subarray(end)),
  };
}
