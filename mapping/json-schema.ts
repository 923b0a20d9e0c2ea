import { z } from 'zod';
import { destinationTypes, sourceTypes, systems } from './endpoints.ts';
import { collectionSchema, mappingSchema, tableSchema, targetUseSchema } from './schema.ts';

/** The mapping for editors that know JSON Schema: what `parseMapping` accepts, key by key. */
export function mappingJsonSchema(): object {
  const connection = z.string().optional().describe('Inherit from this saved connection');
  const sources = sourceTypes.map((type) =>
    z.strictObject({ ...systems[type].schema.shape, source_type: z.literal(type), connection }),
  );
  const targets = destinationTypes.map((type) =>
    z.strictObject({
      ...systems[type].schema.shape,
      ...targetUseSchema.shape,
      destination_type: z.literal(type),
      connection,
    }),
  );
  const saved = z.strictObject({ target: z.string().describe('Name of a saved target'), ...targetUseSchema.shape });
  const whole = mappingSchema.extend({
    source: z.union([z.string().describe('Name of a saved source'), ...sources]),
    destination: z
      .record(z.string(), z.union([z.string().describe('Name of a saved target'), saved, ...targets]))
      .optional(),
    tables: z.array(tableSchema).min(1).optional(),
    collections: z.array(collectionSchema).min(1).optional(),
  });
  const schema = z.toJSONSchema(whole, { io: 'input', unrepresentable: 'any' });
  return { ...schema, title: "Godwit's mapping" };
}
