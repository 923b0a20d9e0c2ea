import { mkdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { type S3Address, sharedS3 } from '../../servers/shared.ts';
import type { Installation } from '../installation.ts';
import { apply, newShop, over, runTables, start, story } from '../job.ts';
import { copySnapshots } from '../oracle.ts';
import { report, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';

/** To a bucket: workers killed while they write parts, before the manifest, in the publication. */
export function bucket(at: () => Installation, kills: number): void {
  test('to S3, with workers killed at random and in the publication: nothing lost, doubled or changed', async () => {
    const here = at();
    const random = here.random.fork('s3');
    const shop = await newShop(here, 'bucket', { rows: 20_000 });
    const s3 = await sharedS3();
    await using writer = startWriter(shop.source, random.fork('writer'));
    const lake = {
      destination_type: 's3',
      s3_bucket_name: s3.bucket,
      prefix: 'lake',
      endpoint: s3.endpoint,
      region: s3.region,
      access_key_id: s3.accessKeyId,
      secret_access_key: s3.secretAccessKey,
      force_path_style: true,
      schema: 'shop',
      format: 'parquet',
    };
    await apply(here, { ...shop.mapping, destination: { lake } });
    here.sourceProxy.delay(40);
    const before = here.workers.kills;
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      await copies.copied(1);
      for (let killed = 0; killed < kills; killed++) {
        await sleep(random.between(200, 1_500));
        here.workers.signal('SIGKILL');
      }
      for (const point of ['before-manifest', 'in-publish'] as const) here.workers.arm(point, 'SIGKILL');
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 200);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const folder = join(here.folder, 'from-s3');
      const left = await download(s3, 'lake/', folder);
      const verdict = await verify(here, shop, run, copies, { lake: join(folder, 'shop') });
      report('S3', { kills: here.workers.kills - before, writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
      expect((await runTables(here, run.id)).length).toBe(verdict.exact + verdict.byVersions);
      expect(left).toEqual([]);
    } finally {
      here.workers.disarm();
      here.sourceProxy.delay(0);
    }
  });
}

/** The objects as files; back come the names of what should not be there: staging, uploads that were never completed. */
async function download(s3: S3Address & { bucket: string }, prefix: string, folder: string): Promise<string[]> {
  const client = new S3Client({
    endpoint: s3.endpoint,
    region: s3.region,
    credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    forcePathStyle: true,
  });
  try {
    const left: string[] = [];
    let token: string | undefined;
    do {
      const page = await client.send(
        new ListObjectsV2Command({ Bucket: s3.bucket, Prefix: prefix, ...(token ? { ContinuationToken: token } : {}) }),
      );
      for (const { Key: key = '' } of page.Contents ?? []) {
        const name = key.slice(prefix.length);
        if (name.startsWith('_godwit/staging/')) left.push(name);
        const { Body: body } = await client.send(new GetObjectCommand({ Bucket: s3.bucket, Key: key }));
        const path = join(folder, name);
        mkdirSync(dirname(path), { recursive: true });
        await writeFile(path, (await body?.transformToByteArray()) ?? new Uint8Array());
      }
      token = page.NextContinuationToken;
    } while (token);
    const uploads = await client.send(new ListMultipartUploadsCommand({ Bucket: s3.bucket }));
    return [...left, ...(uploads.Uploads ?? []).map(({ Key: key }) => `upload of ${key}`)];
  } finally {
    client.destroy();
  }
}
