/** The settings of file targets in the mapping's words: `destination_type: files` and `s3`. */
import { z } from 'zod';
import { GodwitError } from '../../errors.ts';

/** A saved target may carry what a job says about its use; those belong to the planner. */
const use = {
  schema: z.string().optional(),
  table: z.string().optional(),
  format: z.enum(['parquet', 'csv', 'ndjson']).optional(),
  s3_suffix: z.string().optional(),
};

/** When small parts of syncing and logging are joined. */
const compact = z
  .union([
    z.literal(false),
    z.strictObject({ parts: z.int().min(1).default(32), megabytes: z.int().min(1).max(1024).default(16) }),
  ])
  .optional()
  .describe('Joins more than `parts` parts of a folder that are smaller than `megabytes`; false: never');
export type Compact = false | { readonly parts: number; readonly megabytes: number };
export const compactByDefault = { parts: 32, megabytes: 16 } as const satisfies Compact;

export const filesSchema = z.strictObject({
  path: z.string().min(1).describe('Folder below which the tables lie; it must be inside of GODWIT_FILE_ROOTS'),
  compact,
  ...use,
});

export const s3Schema = z.strictObject({
  s3_bucket_name: z.string().min(3).describe('Bucket'),
  prefix: z.string().optional().describe('Where in the bucket; default its top'),
  path: z.string().optional().describe('The same as `prefix`'),
  endpoint: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe('Address of an S3 other than Amazon’s'),
  region: z.string().optional().describe('Default: AWS_REGION, else us-east-1'),
  access_key_id: z.string().optional().describe("Default: the AWS SDK's own chain (environment, profile, role)"),
  secret_access_key: z.string().optional(),
  session_token: z.string().optional(),
  force_path_style: z.boolean().optional().describe('Default: true when an endpoint is given'),
  compact,
  ...use,
});

/** Settings whose values are sealed and never shown. */
export const secretKeys = { files: [], s3: ['secret_access_key', 'session_token'] } as const;

export type FilesSettings = z.infer<typeof filesSchema> & { readonly destination_type: 'files' };
export type S3Settings = z.infer<typeof s3Schema> & { readonly destination_type: 's3' };
export type Settings = FilesSettings | S3Settings;

/** Parses unknown input. Throws SETTINGS_INVALID naming each wrong setting; never quotes a value. */
export function parseSettings(type: 'files' | 's3', input: unknown): Settings {
  const parsed = (type === 's3' ? s3Schema : filesSchema).safeParse(input);
  if (!parsed.success) {
    const places = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'settings'}: ${issue.message}`);
    throw new GodwitError('SETTINGS_INVALID', places.join('; '));
  }
  const settings = { destination_type: type, ...parsed.data } as Settings;
  if (settings.destination_type === 's3' && !settings.access_key_id !== !settings.secret_access_key) {
    throw new GodwitError('SETTINGS_INVALID', 'access_key_id and secret_access_key are given together or not at all.');
  }
  return settings;
}
