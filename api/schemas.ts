/** Shapes that several resources share. */
import { z } from '@hono/zod-openapi';
import { identifier } from '../mapping/schema.ts';
import { strict } from './problem.ts';

// No `.openapi()`: it may have been made before that method was added to zod's schemas.
export const nameBody = identifier;
/** In a path also `<job>/source`, URL-encoded. */
export const nameParam = strict({ name: z.string().min(1).max(200) });
export const uuidParam = z.uuid();
export const empty = strict({});

export const limit = z.coerce.number().int().min(1).max(500).default(50).describe('Items at most');
export const cursor = z.string().min(1).max(500).optional().describe('`next` of the page before');
export const paging = { limit, cursor };

/** `a,b,c` of known words. */
export const listOf = <const T extends readonly [string, ...string[]]>(words: T) =>
  z
    .string()
    .transform((text) => text.split(',').filter(Boolean))
    .pipe(z.array(z.enum(words)))
    .optional();

export const instantQuery = z.iso
  .datetime({ offset: true })
  .transform((text) => new Date(text))
  .optional();

export const pageSchema = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), next: z.string().optional() });

export const instant = z.iso.datetime();
export const maybeInstant = instant.nullable();

export const failureSchema = z
  .object({
    code: z.string(),
    message: z.string(),
    fix: z.string().optional(),
    where: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
    at: z.string(),
    attempt: z.number().int().optional(),
    publishing: z.literal(true).optional().describe('The table is complete and waits for its publication only'),
  })
  .openapi('Failure');

export const checkSchema = z
  .object({
    name: z.string(),
    outcome: z.enum(['pass', 'warn', 'fail']),
    detail: z.string(),
    fix: z.string().optional(),
  })
  .openapi('Check');

export const checksSchema = z.object({ checks: z.array(checkSchema) }).openapi('Checks');

export const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { 'application/json': { schema } },
});
export const body = <T extends z.ZodType>(schema: T, required = true) => ({
  required,
  content: { 'application/json': { schema } },
});

export const iso = (at: Date | null): string | null => at?.toISOString() ?? null;
