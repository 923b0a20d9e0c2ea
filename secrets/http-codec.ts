import type { Payload, PayloadCodec } from '@temporalio/common';
import { asGodwitError } from '../errors.ts';

type JsonPayload = { readonly metadata?: Record<string, string>; readonly data?: string };

const mostBytes = 8 * 1024 * 1024;

/**
 * Temporal's codec endpoint (POST …/decode, …/encode; payloads in protobuf's JSON, bytes in base64), so that Temporal's
 * UI and CLI show what is encrypted. Pages of `origin` alone may read the answers; who may call is the caller's matter.
 */
export function createHttpCodec(codec: PayloadCodec, origin: string): (request: Request) => Promise<Response> {
  return async (request) => {
    const from = request.headers.get('origin');
    if (from !== null && from !== origin) return new Response('Not for pages of that origin.', { status: 403 });
    const cors: Record<string, string> = {
      'access-control-allow-origin': origin,
      'access-control-allow-methods': 'POST, OPTIONS',
      'access-control-allow-headers': 'content-type, x-namespace, authorization',
      'access-control-allow-private-network': 'true',
      vary: 'origin',
    };
    if (request.method === 'OPTIONS') return new Response(null, { status: 204, headers: cors });
    const verb = /\/(encode|decode)$/.exec(new URL(request.url).pathname)?.[1];
    if (request.method !== 'POST' || verb === undefined)
      return new Response('Not found.', { status: 404, headers: cors });
    try {
      const text = await request.text();
      if (text.length > mostBytes) return new Response('Too large.', { status: 413, headers: cors });
      const { payloads = [] } = JSON.parse(text) as { payloads?: JsonPayload[] };
      const input = payloads.map(fromJson);
      const output = await (verb === 'decode' ? codec.decode(input) : codec.encode(input));
      return Response.json({ payloads: output.map(toJson) }, { headers: cors });
    } catch (error) {
      const wrongKey = asGodwitError(error).code === 'SECRET_UNREADABLE';
      const message = wrongKey ? asGodwitError(error).message : 'The body holds no payloads.';
      return new Response(message, { status: 400, headers: cors });
    }
  };
}

const fromJson = ({ metadata = {}, data = '' }: JsonPayload): Payload => ({
  metadata: Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, Buffer.from(value, 'base64')])),
  data: Buffer.from(data, 'base64'),
});

const toJson = ({ metadata, data }: Payload): JsonPayload => ({
  metadata: Object.fromEntries(
    Object.entries(metadata ?? {}).map(([key, value]) => [key, Buffer.from(value ?? []).toString('base64')]),
  ),
  data: Buffer.from(data ?? []).toString('base64'),
});
