/**
 * Envelopes: AES-256-GCM under a data key of its own per secret, which is wrapped by the key-encryption key. The purpose
 * ("connection/<id>", "chunk bounds" …) is bound in: an envelope moved to another place does not open.
 *
 * Layout: "GW" · version 1 · key id (6 bytes) · nonce (12) · wrapped data key (32) · tag (16) · nonce (12) · tag (16) · text
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { GodwitError } from '../errors.ts';
import type { Keyring } from './keyring.ts';

const magic = Buffer.from([0x47, 0x57, 1]);
const headLength = magic.length + 6;
const wrapLength = 12 + 32 + 16;

export type Sealer = {
  seal(bytes: Uint8Array, purpose: string): Buffer;
  sealText(text: string, purpose: string): Buffer;
  /** Anything JSON can say, and bigint and bytes beside. */
  sealJson(value: unknown, purpose: string): Buffer;
  /** Throws SECRET_UNREADABLE: another key, another purpose, changed bytes. */
  open(envelope: Uint8Array, purpose: string): Buffer;
  openText(envelope: Uint8Array, purpose: string): string;
  openJson<T>(envelope: Uint8Array, purpose: string): T;
  /** The same for the same value under the same key and purpose; nobody without the key can tell of which value it is. */
  mark(value: unknown, purpose: string): string;
};

export function createSealer(keyring: Keyring): Sealer {
  const head = Buffer.concat([magic, Buffer.from(keyring.id, 'hex')]);

  const seal = (bytes: Uint8Array, purpose: string): Buffer => {
    const aad = Buffer.from(purpose, 'utf8');
    const dataKey = randomBytes(32);
    const body = encrypt(dataKey, bytes, aad);
    const wrapped = encrypt(keyring.key, dataKey, Buffer.concat([head, aad]));
    return Buffer.concat([head, wrapped.nonce, wrapped.text, wrapped.tag, body.nonce, body.tag, body.text]);
  };

  const open = (envelope: Uint8Array, purpose: string): Buffer => {
    const at = Buffer.from(envelope.buffer, envelope.byteOffset, envelope.byteLength);
    if (at.length < headLength + wrapLength + 28 || !at.subarray(0, 3).equals(magic)) {
      throw new GodwitError('SECRET_UNREADABLE', `Not a sealed value (${purpose}).`);
    }
    const keyId = at.subarray(3, headLength).toString('hex');
    if (keyId !== keyring.id) {
      const message = `Sealed with key ${keyId}, but this process has key ${keyring.id} (${purpose}).`;
      throw new GodwitError('SECRET_UNREADABLE', message);
    }
    const aad = Buffer.from(purpose, 'utf8');
    const wrap = at.subarray(headLength, headLength + wrapLength);
    const body = at.subarray(headLength + wrapLength);
    try {
      const dataKey = decrypt(
        keyring.key,
        { nonce: wrap.subarray(0, 12), text: wrap.subarray(12, 44), tag: wrap.subarray(44) },
        Buffer.concat([head, aad]),
      );
      return decrypt(
        dataKey,
        { nonce: body.subarray(0, 12), tag: body.subarray(12, 28), text: body.subarray(28) },
        aad,
      );
    } catch (error) {
      const message = `A sealed value was changed, or belongs elsewhere (${purpose}).`;
      throw new GodwitError('SECRET_UNREADABLE', message, { cause: error });
    }
  };

  const markKey = Buffer.from(hkdfSync('sha256', keyring.key, '', 'godwit marks', 32));

  return {
    seal,
    open,
    mark: (value, purpose) =>
      createHmac('sha256', markKey)
        .update(JSON.stringify([purpose, tag(value)]))
        .digest('base64url'),
    sealText: (text, purpose) => seal(Buffer.from(text, 'utf8'), purpose),
    openText: (envelope, purpose) => open(envelope, purpose).toString('utf8'),
    sealJson: (value, purpose) => seal(Buffer.from(JSON.stringify(tag(value)), 'utf8'), purpose),
    openJson: <T>(envelope: Uint8Array, purpose: string) =>
      untag(JSON.parse(open(envelope, purpose).toString('utf8'))) as T,
  };
}

type Sealed = { readonly nonce: Uint8Array; readonly text: Uint8Array; readonly tag: Uint8Array };

/** AES-256-GCM with a fresh random nonce. */
export function encrypt(key: Uint8Array, text: Uint8Array, aad: Uint8Array): Sealed {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  return { nonce, text: Buffer.concat([cipher.update(text), cipher.final()]), tag: cipher.getAuthTag() };
}

/** Throws when key, bytes or aad differ. */
export function decrypt(key: Uint8Array, sealed: Sealed, aad: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.nonce, { authTagLength: 16 }).setAAD(aad);
  decipher.setAuthTag(sealed.tag);
  return Buffer.concat([decipher.update(sealed.text), decipher.final()]);
}

// What JSON cannot say: `{"$":"bigint","v":"1"}`, `{"$":"bytes","v":"<base64>"}`, numbers that are not finite; an object that has a `$` of its own is
// wrapped, so that nothing a row holds is taken for one of these.
const tag = (value: unknown): unknown => {
  if (typeof value === 'bigint') return { $: 'bigint', v: String(value) };
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) {
    return { $: 'number', v: Object.is(value, -0) ? '-0' : String(value) };
  }
  if (value instanceof Uint8Array) {
    return { $: 'bytes', v: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') };
  }
  if (Array.isArray(value)) return value.map(tag);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([key, one]) => [key, tag(one)] as const);
  return '$' in value ? { $: 'object', v: entries } : Object.fromEntries(entries);
};

const untag = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(untag);
  if (value === null || typeof value !== 'object') return value;
  const { $: kind, v } = value as { $?: unknown; v?: unknown };
  switch (kind) {
    case 'bigint':
      return BigInt(v as string);
    case 'number':
      return Number(v);
    case 'bytes':
      return new Uint8Array(Buffer.from(v as string, 'base64'));
    case 'object':
      return fromEntries((v as [string, unknown][]).map(([key, one]) => [key, untag(one)]));
    default:
      return fromEntries(Object.entries(value).map(([key, one]) => [key, untag(one)]));
  }
};

/** `__proto__` is a key like any other. */
const fromEntries = (entries: [string, unknown][]): object => {
  const made = {};
  for (const [key, value] of entries) {
    Object.defineProperty(made, key, { value, enumerable: true, writable: true, configurable: true });
  }
  return made;
};
