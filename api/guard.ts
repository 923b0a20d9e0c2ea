import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { createMiddleware } from 'hono/factory';
import { GodwitError } from '../errors.ts';
import { answerProblem } from './problem.ts';

type Called = {
  readonly host: string | undefined;
  readonly origin: string | undefined;
  readonly authorization: string | undefined;
};

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/i;

/**
 * Who may call. With a token: who knows it. Without one the API listens on loopback alone, and a web page somewhere must
 * not reach it through the user's browser: not by a name that resolves to loopback (Host), not across origins (Origin).
 */
export function judge(
  { host = '', origin, authorization }: Called,
  token: string | undefined,
): GodwitError | undefined {
  if (token !== undefined) {
    const given = /^Bearer (.+)$/i.exec(authorization ?? '')?.[1];
    if (given !== undefined && sameText(given, token)) return undefined;
    return new GodwitError('UNAUTHORIZED', given === undefined ? 'The request has no token.' : 'The token is wrong.');
  }
  if (!loopback.test(host)) {
    const message = `The Host header "${host.slice(0, 100)}" is not this machine's own (localhost, 127.0.0.1).`;
    return Object.assign(new GodwitError('UNAUTHORIZED', message), {
      fix: 'Call it as http://127.0.0.1, or start it with GODWIT_TOKEN.',
    });
  }
  if (origin !== undefined && origin.replace(/^https?:\/\//, '') !== host) {
    return Object.assign(new GodwitError('UNAUTHORIZED', 'Pages of other origins may not call this API.'), {
      fix: 'Start it with GODWIT_TOKEN and send the token.',
    });
  }
  return undefined;
}

/** In constant time, whatever the lengths. */
const sameText = (a: string, b: string): boolean => {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
};

export const guard = (token: string | undefined) =>
  createMiddleware(async (c, next) => {
    const called = {
      host: c.req.header('host') ?? new URL(c.req.url).host,
      origin: c.req.header('origin'),
      authorization: c.req.header('authorization'),
    };
    const refusal = judge(called, token);
    if (refusal) return answerProblem(c, refusal);
    await next();
  });

/** Browsers cannot set headers on a WebSocket: the token may come as subprotocol `bearer.<token>`. */
export function judgeUpgrade(request: IncomingMessage, token: string | undefined): GodwitError | undefined {
  const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((one) => one.trim());
  const given = protocols.find((one) => one.startsWith('bearer.'))?.slice('bearer.'.length);
  const authorization = request.headers.authorization ?? (given === undefined ? undefined : `Bearer ${given}`);
  return judge({ host: request.headers.host, origin: request.headers.origin, authorization }, token);
}

/** Bodies are JSON or YAML: what a page may send anywhere without asking (a form, plain text) is refused. */
export const onlyDocuments = createMiddleware(async (c, next) => {
  const type = c.req.header('content-type');
  if (type !== undefined && !/^(application|text)\/([\w.-]+\+)?(json|yaml|x-yaml)\s*(;|$)/i.test(type)) {
    return answerProblem(c, new GodwitError('USAGE', `A body of type ${type.slice(0, 100)} is not taken: send JSON.`));
  }
  await next();
});
