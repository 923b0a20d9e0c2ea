import { mappingJsonSchema } from '../../mapping/json-schema.ts';
import type { Context } from '../context.ts';

export async function schema({ out }: Context): Promise<undefined> {
  const schema = mappingJsonSchema();
  out.text(JSON.stringify(schema, undefined, 2));
  out.json(schema);
}
