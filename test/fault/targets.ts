import { mkdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import type { S3Address } from '../servers/shared.ts';
import type { Installation } from './installation.ts';
import type { Mapping, Places, Shop } from './job.ts';
import { filesPlace, parquet } from './kinds/files.ts';

export type Bucket = S3Address & { readonly bucket: string };

/** The shop's mapping with a second target, Parquet in a local folder, and a third, Parquet in a bucket. */
export const everywhere = (at: Installation, shop: Shop, bucket?: Bucket): Mapping => ({
  ...shop.mapping,
  destination: {
    ...(shop.mapping.destination as object),
    lake: filesPlace(join(at.files, shop.name)).settings,
    ...(bucket ? { bucket: inBucket(bucket, shop) } : {}),
  },
});

const inBucket = (bucket: Bucket, shop: Shop) => ({
  destination_type: 's3',
  s3_bucket_name: bucket.bucket,
  prefix: shop.name,
  endpoint: bucket.endpoint,
  region: bucket.region,
  access_key_id: bucket.accessKeyId,
  secret_access_key: bucket.secretAccessKey,
  force_path_style: true,
  ...parquet,
});

export const withLake = (at: Installation, shop: Shop): Places => ({
  ...shop.places,
  lake: filesPlace(join(at.files, shop.name)),
});

/**
 * The bucket's objects as files, to be looked at like those of the lake. `left`: what should not be there, staging and
 * uploads that were never completed.
 */
export async function download(
  at: Installation,
  shop: Shop,
  bucket: Bucket,
): Promise<{ readonly places: Places; readonly left: string[] }> {
  const root = join(at.folder, 'downloads', `${shop.name}-${Date.now()}`);
  const client = new S3Client({
    endpoint: bucket.endpoint,
    region: bucket.region,
    credentials: { accessKeyId: bucket.accessKeyId, secretAccessKey: bucket.secretAccessKey },
    forcePathStyle: true,
  });
  try {
    const left: string[] = [];
    let token: string | undefined;
    do {
      const page = await client.send(
        new ListObjectsV2Command({
          Bucket: bucket.bucket,
          Prefix: `${shop.name}/`,
          ...(token ? { ContinuationToken: token } : {}),
        }),
      );
      for (const { Key: key = '' } of page.Contents ?? []) {
        const name = key.slice(shop.name.length + 1);
        if (name.startsWith('_godwit/staging/')) left.push(name);
        const { Body: body } = await client.send(new GetObjectCommand({ Bucket: bucket.bucket, Key: key }));
        const path = join(root, name);
        mkdirSync(dirname(path), { recursive: true });
        await writeFile(path, (await body?.transformToByteArray()) ?? new Uint8Array());
      }
      token = page.NextContinuationToken;
    } while (token);
    const uploads = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket.bucket }));
    left.push(...(uploads.Uploads ?? []).map(({ Key: key }) => `upload of ${key}`));
    return { places: { bucket: filesPlace(root) }, left };
  } finally {
    client.destroy();
  }
}
