import { createHmac } from 'node:crypto';
import { plainText } from './format.ts';
import { type Delivery, post, refuseStatus } from './send.ts';

/**
 * JSON to any address. With a secret it is signed: HMAC-SHA256 over `<timestamp>.<body>`, so that who receives it knows who
 * sent it and when (docs/notifications.md has how to verify).
 */
export async function sendWebhook(
  { url, secret }: { readonly url?: string; readonly secret?: string },
  { id, event, message, data }: Delivery,
): Promise<void> {
  const body = JSON.stringify({ id, event, title: message.title, text: plainText(message), ...(data as object) });
  const timestamp = String(Math.floor(Date.now() / 1000));
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'user-agent': 'Godwit',
    'godwit-id': id,
    'godwit-event': event,
    'godwit-timestamp': timestamp,
    ...(secret ? { 'godwit-signature': `v1=${signature(secret, timestamp, body)}` } : {}),
  };
  const to = url ?? '';
  refuseStatus(to, await post(to, headers, body));
}

const signature = (secret: string, timestamp: string, body: string): string =>
  createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex');
