import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { startS3 } from '../../servers/s3.ts';
import { missing, sharedS3 } from './shared.ts';

const clientOf = ({ accessKeyId, secretAccessKey, ...at }: Awaited<ReturnType<typeof sharedS3>>) => {
  const client = new S3Client({
    endpoint: at.endpoint,
    region: at.region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
  });
  onTestFinished(() => client.destroy());
  return client;
};

describe.skipIf(await missing('s3'))('The S3 server', () => {
  test('keeps objects, refuses a second conditional put, and a wrong secret', async () => {
    const s3 = await sharedS3();
    const client = clientOf(s3);
    const put = (text: string) =>
      client.send(new PutObjectCommand({ Bucket: s3.bucket, Key: 'a/b', Body: text, IfNoneMatch: '*' }));
    await put('first');
    await expect(put('second')).rejects.toMatchObject({ $metadata: { httpStatusCode: 412 } });
    const got = await client.send(new GetObjectCommand({ Bucket: s3.bucket, Key: 'a/b' }));
    expect(await got.Body?.transformToString()).toBe('first');
    const wrong = clientOf({ ...s3, secretAccessKey: 'wrong' });
    await expect(wrong.send(new ListObjectsV2Command({ Bucket: s3.bucket }))).rejects.toMatchObject({
      name: 'SignatureDoesNotMatch',
    });
  });

  test('each bucket is new and empty', async () => {
    const [a, b] = await Promise.all([sharedS3(), sharedS3()]);
    expect(a.bucket).not.toBe(b.bucket);
    const { KeyCount } = await clientOf(b).send(new ListObjectsV2Command({ Bucket: b.bucket }));
    expect(KeyCount).toBe(0);
  });

  test('one of our own survives kill -9 with its port and objects', async () => {
    await using server = await startS3();
    const endpoint = server.endpoint;
    await server.kill();
    await expect(fetch(endpoint)).rejects.toThrow();
    await server.restart();
    expect(server.endpoint).toBe(endpoint);
    expect((await fetch(endpoint)).status).toBe(403);
  });
});
