import type { Context } from 'hono';
import { GodwitError } from '../errors.ts';
import { type ParsedMapping, parseMapping } from '../mapping/parse.ts';

export const mappingContent = {
  description: 'A mapping as its author writes it: docs/mapping.md',
  required: false,
  content: {
    'application/json': {
      schema: { type: 'object', description: 'Keys: docs/mapping.md. Unknown ones are refused' } as const,
    },
    'application/yaml': { schema: { type: 'string' } as const },
  },
};

/** The mapping in the body, JSON or YAML. Throws MAPPING_INVALID with everything wrong at once. */
export async function readMapping(c: Context): Promise<ParsedMapping> {
  const type = c.req.header('content-type') ?? '';
  const text = await c.req.text();
  if (text.trim() === '') throw new GodwitError('USAGE', 'The body is empty: send the mapping.');
  if (!/json/.test(type)) return parseMapping(text, { format: 'yaml' });
  let mapping: unknown;
  try {
    mapping = JSON.parse(text);
  } catch (error) {
    throw new GodwitError('USAGE', `The body is no JSON: ${(error as Error).message.replace(/[,:] .*$/s, '')}`);
  }
  return parseMapping(mapping as object);
}
