import { OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import type { Logger } from 'pino';
import { databaseError } from '../db/open.ts';
import { codes, GodwitError } from '../errors.ts';
import { nearest, pathText } from '../mapping/problems.ts';

/** RFC 9457. `code` is one of docs/errors.md; `problems` lists everything wrong at once, with its place. */
export const problemSchema = z
  .object({
    code: z.string().openapi({ example: 'ALREADY_RUNNING' }),
    title: z.string().describe('What the code means'),
    status: z.number().int(),
    detail: z.string().describe('What happened here'),
    fix: z.string().describe('What to do'),
    where: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
    problems: z
      .array(
        z.object({
          path: z.string(),
          message: z.string(),
          line: z.number().int().optional(),
          column: z.number().int().optional(),
        }),
      )
      .optional(),
  })
  .openapi('Problem');

type Extra = { readonly fix?: string; readonly problems?: z.infer<typeof problemSchema>['problems'] };

export function problemOf(error: GodwitError & Extra): z.infer<typeof problemSchema> {
  const { means, fix, status } = codes[error.code];
  const where = Object.fromEntries(Object.entries(error.where).filter(([, value]) => value !== undefined));
  return {
    code: error.code,
    title: means,
    status,
    detail: error.message,
    fix: error.fix ?? fix,
    ...(Object.keys(where).length > 0 ? { where: where as Record<string, string> } : {}),
    ...(error.problems ? { problems: error.problems } : {}),
  };
}

export const answerProblem = (c: Context, error: GodwitError): Response => {
  const problem = problemOf(error);
  const headers: Record<string, string> = { 'content-type': 'application/problem+json' };
  if (problem.status === 401) headers['www-authenticate'] = 'Bearer';
  return c.body(JSON.stringify(problem), problem.status as 400, headers);
};

/** Anything a handler threw. What is unforeseen goes to the log with its stack; the answer names the request. */
export const onError =
  (log: Logger) =>
  (error: unknown, c: Context): Response => {
    const known = asProblem(error);
    if (known) return answerProblem(c, known);
    const ours = databaseError(error);
    if (ours.code !== 'INTERNAL') return answerProblem(c, ours);
    // Class 22 of our own PostgreSQL: a NUL character or half a surrogate pair, in a name or anywhere in a document.
    if (ours.where.native?.startsWith('22')) {
      return answerProblem(c, new GodwitError('USAGE', 'The request holds a character that cannot be stored (NUL).'));
    }
    const request = crypto.randomUUID();
    // By hand: drizzle's own message would bring the query's parameters into the log.
    log.error({ request, method: c.req.method, path: c.req.routePath, err: ours.cause ?? ours }, 'request failed');
    const message = `Something unforeseen happened; the log has it under request ${request}.`;
    return answerProblem(c, new GodwitError('INTERNAL', message));
  };

function asProblem(error: unknown): GodwitError | undefined {
  if (error instanceof GodwitError) return error;
  // Hono's own: a body that is no JSON.
  if (error instanceof HTTPException && error.status < 500) return new GodwitError('USAGE', error.message);
  return undefined;
}

/** A sub-app whose validation answers problems. */
export const router = () =>
  new OpenAPIHono({
    defaultHook: (result, c) => {
      if (result.success) return undefined;
      const problems = result.error.issues.flatMap((issue) => {
        const path = pathText(issue.path);
        if (issue.code !== 'unrecognized_keys') return [{ path, message: issue.message }];
        return issue.keys.map((key) => ({ path: pathText([...issue.path, key]), message: issue.message }));
      });
      const detail = problems.map(({ path, message }) => (path ? `${path}: ${message}` : message)).join('; ');
      const error = new GodwitError('USAGE', `The ${placeOf(result.target)} is wrong: ${detail}`);
      return answerProblem(c, Object.assign(error, { problems }));
    },
  });

const placeOf = (target: string): string =>
  ({ json: 'body', query: 'query', param: 'path', header: 'header' })[target] ?? target;

/** An object without other keys; an unknown one is told with the nearest known. */
export const strict = <S extends z.ZodRawShape>(shape: S) =>
  z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return undefined;
      const known = Object.keys(shape);
      return (issue.keys as string[])
        .map((key) => {
          const best = nearest(key, known);
          if (best) return `unknown key "${key}"; did you mean "${best}"?`;
          return `unknown key "${key}"; ${known.length > 0 ? `known here: ${known.join(', ')}` : 'none is known here'}`;
        })
        .join('; ');
    },
  });
