import { codes, type ErrorCode, GodwitError } from '../errors.ts';

/** A small client of Godwit's API. Every failure is a GodwitError in the words the API gave. */
export type Client = {
  readonly url: string;
  readonly get: <T>(path: string, query?: Query) => Promise<T>;
  readonly post: <T>(path: string, body?: unknown, headers?: Record<string, string>) => Promise<T>;
  readonly put: <T>(path: string, body: unknown) => Promise<T>;
  readonly delete: (path: string) => Promise<void>;
  /** An answer that is no JSON, as it comes. */
  readonly raw: (path: string) => Promise<ReadableStream<Uint8Array>>;
  /** All items of a paged list, page by page. */
  readonly list: <T>(path: string, query?: Query, most?: number) => Promise<T[]>;
};

type Query = Readonly<Record<string, string | number | undefined>>;
export type Page<T> = { readonly items: readonly T[]; readonly next?: string | null };

export function makeClient(url: string, token: string | undefined): Client {
  const base = url.replace(/\/+$/, '');
  async function ask(
    method: string,
    path: string,
    body?: unknown,
    more: Record<string, string> = {},
  ): Promise<Response> {
    const headers: Record<string, string> = { accept: 'application/json', 'x-godwit-client': 'cli', ...more };
    if (token) headers.authorization = `Bearer ${token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    let response: Response;
    try {
      response = await fetch(`${base}${path}`, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      throw unreachable(base, error);
    }
    if (!response.ok) throw await problem(response, `${method} ${path}`);
    return response;
  }
  async function call<T>(...args: Parameters<typeof ask>): Promise<T> {
    const text = await (await ask(...args)).text();
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }
  const get = <T>(path: string, query: Query = {}) => call<T>('GET', path + queryText(query));
  return {
    url: base,
    get,
    post: (path, body, headers) => call('POST', path, body, headers),
    put: (path, body) => call('PUT', path, body),
    delete: (path) => call('DELETE', path),
    raw: async (path) => (await ask('GET', path)).body ?? new ReadableStream(),
    async list<T>(path: string, query: Query = {}, most = Number.POSITIVE_INFINITY) {
      const items: T[] = [];
      let cursor: string | undefined;
      do {
        const page: Page<T> = await get(path, { ...query, ...(cursor ? { cursor } : {}) });
        items.push(...page.items);
        cursor = page.next ?? undefined;
      } while (cursor && items.length < most);
      return items.slice(0, most);
    },
  };
}

/** A name as one part of a path; `shop/warehouse` stays one. */
export const part = (name: string): string => encodeURIComponent(name);

function queryText(query: Query): string {
  const set = Object.entries(query).filter(([, value]) => value !== undefined);
  return set.length === 0
    ? ''
    : `?${new URLSearchParams(set.map(([key, value]): [string, string] => [key, String(value)]))}`;
}

const unreachable = (base: string, cause: unknown): GodwitError =>
  Object.assign(new GodwitError('CONNECTION_FAILED', `The Godwit API at ${base} does not answer.`, { cause }), {
    fix: 'Start it with `godwit up` (or `godwit api`), or correct GODWIT_URL.',
  });

/** problem+json as the sentence the user reads. */
async function problem(response: Response, what: string): Promise<GodwitError> {
  const text = await response.text().catch(() => '');
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // not ours: a proxy, or another program at this address
  }
  const known = typeof body.code === 'string' && body.code in codes;
  const code = known ? (body.code as ErrorCode) : response.status === 401 ? 'UNAUTHORIZED' : 'INTERNAL';
  const said = [body.detail, body.title].find((one) => typeof one === 'string' && one !== '') as string | undefined;
  const sentence = said ?? `${what} was answered with ${response.status} ${response.statusText}, not by Godwit's API.`;
  const where = typeof body.where === 'object' && body.where !== null ? (body.where as Record<string, string>) : {};
  const error = new GodwitError(code, sentence, where);
  const extra = {
    ...(typeof body.fix === 'string' ? { fix: body.fix } : {}),
    ...(Array.isArray(body.problems) ? { problems: body.problems } : {}),
  };
  return Object.assign(error, extra, { status: response.status });
}

/** Does Godwit answer there? False for anything else that listens. */
export async function answersAt(url: string, milliseconds = 1_500): Promise<boolean> {
  try {
    const response = await fetch(`${url.replace(/\/+$/, '')}/healthz`, { signal: AbortSignal.timeout(milliseconds) });
    return response.ok;
  } catch {
    return false;
  }
}
