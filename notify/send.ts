import { GodwitError } from '../errors.ts';
import type { Channel } from '../mapping/settings.ts';
import type { Message } from './format.ts';

export type Delivery = {
  /** The notification's own: the same when it is sent again. */
  readonly id: string;
  /** `failed`, `partial` …, or `test`. */
  readonly event: string;
  readonly message: Message;
  /** For programs: what a webhook gets beside the text. */
  readonly data: unknown;
};

/** What a receiver answered, for whoever tries again. `after`: seconds it asked for. */
export type Refusal = GodwitError & { readonly permanent: boolean; readonly after?: number };

/** No longer than a worker's claim lasts. */
export const timeoutMs = 20_000;

/** `settings`: of the channel, with its secrets, references resolved. Throws a Refusal; nothing of a secret is in it. */
export async function send(
  type: Channel['type'],
  settings: Readonly<Record<string, unknown>>,
  delivery: Delivery,
): Promise<void> {
  switch (type) {
    case 'slack':
      return await (await import('./slack.ts')).sendSlack(settings, delivery);
    case 'webhook':
      return await (await import('./webhook.ts')).sendWebhook(settings, delivery);
    case 'email':
      return await (await import('./email.ts')).sendEmail(settings, delivery);
  }
}

export function refusal(
  message: string,
  {
    permanent,
    after,
    cause,
  }: { readonly permanent: boolean; readonly after?: number | undefined; readonly cause?: unknown },
): Refusal {
  const code = permanent ? 'NOTIFICATION_REFUSED' : 'CONNECTION_FAILED';
  const error = new GodwitError(code, message, cause === undefined ? {} : { cause });
  return Object.assign(error, { permanent, ...(after === undefined ? {} : { after }) });
}

export const isRefusal = (error: unknown): error is Refusal => error instanceof GodwitError && 'permanent' in error;

type Posted = { readonly status: number; readonly text: string; readonly after?: number };

/**
 * One POST. A redirect is not followed: what is signed or secret goes to the address that was given, and nowhere else. Throws a
 * Refusal when nobody answers.
 */
export async function post(url: string, headers: Record<string, string>, body: string): Promise<Posted> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers,
      body,
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    });
    text = (await response.text()).slice(0, 2000);
  } catch (error) {
    const { cause } = error as { cause?: { code?: string } };
    const why =
      (error as Error).name === 'TimeoutError'
        ? `no answer in ${timeoutMs / 1000} s`
        : (cause?.code ?? 'no connection');
    throw refusal(`${hostOf(url)} does not answer: ${why}.`, { permanent: false });
  }
  const after = retryAfter(response.headers.get('retry-after'));
  return { status: response.status, text, ...(after === undefined ? {} : { after }) };
}

/** A path or a query may be a secret. */
export const hostOf = (url: string): string => (URL.canParse(url) ? new URL(url).host : 'the address given');

/** Seconds, or a date. */
function retryAfter(value: string | null): number | undefined {
  if (value === null) return undefined;
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/** Throws for anything but 2xx: 408, 425, 429 and 5xx pass, the others do not. */
export function refuseStatus(url: string, { status, after }: Posted): void {
  if (status >= 200 && status < 300) return;
  const passing = status >= 500 || [408, 425, 429].includes(status);
  throw refusal(`${hostOf(url)} answered with status ${status}.`, { permanent: !passing, after });
}
