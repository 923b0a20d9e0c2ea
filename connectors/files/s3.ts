/** A bucket of any S3 as a store. */
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { GodwitError } from '../../errors.ts';
import type { Check } from '../contract.ts';
import type { S3Settings } from './settings.ts';
import { isFile, type Store } from './store.ts';

const mb = 1024 * 1024;
/** From here on in pieces; each is one buffer in memory. */
const pieceBytes = 8 * mb;
const piecesAtOnce = 2;
/** S3 copies at most 5 GB by one request. */
const copyBytes = 5 * 1024 * mb;

/** Does not reach out: the first use does. */
export function openS3(settings: S3Settings): Store {
  const { s3_bucket_name: Bucket, endpoint } = settings;
  const prefix = normalPrefix(settings.prefix ?? settings.path ?? '');
  const client = new S3Client(clientConfig(settings));
  const at = (key: string) => prefix + key;
  const target = (key: string) => ({ Bucket, Key: at(key) });

  async function multipart(key: string, file: string, size: number): Promise<boolean> {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(target(key)));
    const upload = { ...target(key), UploadId };
    try {
      const pieces = piecesOf(size, pieceBytes);
      const source = await open(file, 'r');
      const Parts: { ETag: string | undefined; PartNumber: number }[] = [];
      try {
        await inParallel(pieces, piecesAtOnce, async ({ from, bytes, PartNumber }) => {
          const Body = Buffer.allocUnsafe(bytes);
          await source.read(Body, 0, bytes, from);
          const { ETag } = await client.send(new UploadPartCommand({ ...upload, PartNumber, Body }));
          Parts[PartNumber - 1] = { ETag, PartNumber };
        });
      } finally {
        await source.close();
      }
      await client.send(
        new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts }, IfNoneMatch: '*' }),
      );
      return true;
    } catch (error) {
      await client.send(new AbortMultipartUploadCommand(upload)).catch(() => {});
      if (isTaken(error)) return false;
      throw error;
    }
  }

  async function copyLarge(from: string, to: string, size: number): Promise<void> {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(target(to)));
    const upload = { ...target(to), UploadId };
    try {
      const Parts: { ETag: string | undefined; PartNumber: number }[] = [];
      await inParallel(piecesOf(size, 512 * mb), piecesAtOnce, async ({ from: start, bytes, PartNumber }) => {
        const { CopyPartResult } = await client.send(
          new UploadPartCopyCommand({
            ...upload,
            PartNumber,
            CopySource: copySource(Bucket, at(from)),
            CopySourceRange: `bytes=${start}-${start + bytes - 1}`,
          }),
        );
        Parts[PartNumber - 1] = { ETag: CopyPartResult?.ETag, PartNumber };
      });
      await client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } }));
    } catch (error) {
      await client.send(new AbortMultipartUploadCommand(upload)).catch(() => {});
      throw error;
    }
  }

  const store: Store = {
    kind: 's3',
    identity: async () => `s3:${endpoint ? new URL(endpoint).host : 'aws'}/${Bucket}/${prefix}`,
    putIfAbsent: (key, body) =>
      translated(Bucket, async () => {
        const size = isFile(body) ? (await stat(body.file)).size : body.byteLength;
        if (isFile(body) && size > pieceBytes) return multipart(key, body.file, size);
        const Body = isFile(body) ? await wholeFile(body.file, size) : body;
        return taken(client.send(new PutObjectCommand({ ...target(key), Body, IfNoneMatch: '*' })));
      }),
    replaceIf: (key, Body, version) =>
      translated(Bucket, () => taken(client.send(new PutObjectCommand({ ...target(key), Body, IfMatch: version })))),
    get: (key) =>
      translated(Bucket, async () => {
        const found = await client.send(new GetObjectCommand(target(key))).catch(absent);
        if (!found?.Body) return undefined;
        return { bytes: await found.Body.transformToByteArray(), version: found.ETag ?? '' };
      }),
    fetch: (key, path) =>
      translated(Bucket, async () => {
        const found = await client.send(new GetObjectCommand(target(key))).catch(absent);
        if (!found?.Body) return false;
        await pipeline(found.Body as Readable, createWriteStream(path));
        return true;
      }),
    url: (key) => `s3://${Bucket}/${at(key)}`,
    size: (key) =>
      translated(
        Bucket,
        async () => (await client.send(new HeadObjectCommand(target(key))).catch(absent))?.ContentLength,
      ),
    async *list(below) {
      let ContinuationToken: string | undefined;
      do {
        const query = { Bucket, Prefix: at(below), ContinuationToken };
        const page = await translated(Bucket, () => client.send(new ListObjectsV2Command(query)));
        for (const { Key, Size } of page.Contents ?? []) {
          // Some consoles make empty objects that stand for folders.
          if (Key !== undefined && !Key.endsWith('/')) yield { key: Key.slice(prefix.length), size: Size ?? 0 };
        }
        ContinuationToken = page.NextContinuationToken;
      } while (ContinuationToken !== undefined);
    },
    copy: (from, to) =>
      translated(Bucket, async () => {
        const size = (await store.size(from)) ?? 0;
        if (size >= copyBytes) return copyLarge(from, to, size);
        await client.send(new CopyObjectCommand({ ...target(to), CopySource: copySource(Bucket, at(from)) }));
      }),
    delete: (keys) =>
      translated(Bucket, async () => {
        for (let i = 0; i < keys.length; i += 1000) {
          const Objects = keys.slice(i, i + 1000).map((key) => ({ Key: at(key) }));
          const { Errors } = await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } }));
          const [first] = (Errors ?? []).filter(({ Code }) => Code !== 'NoSuchKey');
          if (first) throw Object.assign(new Error('delete refused'), { name: first.Code });
        }
      }),
    check: () => checkS3({ client, store, bucket: Bucket, prefix }),
    async [Symbol.asyncDispose]() {
      client.destroy();
    },
  };
  return store;
}

function clientConfig(settings: S3Settings): S3ClientConfig {
  const { endpoint, access_key_id, secret_access_key, session_token } = settings;
  return {
    region: settings.region ?? process.env.AWS_REGION ?? 'us-east-1',
    ...(endpoint ? { endpoint } : {}),
    forcePathStyle: settings.force_path_style ?? endpoint !== undefined,
    ...(access_key_id && secret_access_key
      ? {
          credentials: {
            accessKeyId: access_key_id,
            secretAccessKey: secret_access_key,
            ...(session_token ? { sessionToken: session_token } : {}),
          },
        }
      : {}),
    maxAttempts: 5,
    requestHandler: { connectionTimeout: 10_000, requestTimeout: 120_000 },
  };
}

const normalPrefix = (text: string): string => {
  const parts = text.split('/').filter((part) => part !== '');
  return parts.length === 0 ? '' : `${parts.join('/')}/`;
};

const copySource = (bucket: string, key: string): string =>
  `${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`;

function piecesOf(size: number, wanted: number) {
  const bytes = Math.max(wanted, Math.ceil(size / 9_000));
  return Array.from({ length: Math.max(1, Math.ceil(size / bytes)) }, (_, i) => ({
    PartNumber: i + 1,
    from: i * bytes,
    bytes: Math.min(bytes, size - i * bytes),
  }));
}

async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const rest = [...items];
  const lane = async () => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

async function wholeFile(path: string, size: number): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const bytes = Buffer.allocUnsafe(size);
    await file.read(bytes, 0, size, 0);
    return bytes;
  } finally {
    await file.close();
  }
}

type S3Error = {
  readonly name?: string;
  readonly code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
};
const statusOf = (error: unknown) => (error as S3Error).$metadata?.httpStatusCode;
const isTaken = (error: unknown) => statusOf(error) === 412 || (error as S3Error).name === 'PreconditionFailed';

/** 412 is an answer. 409 (two conditional writes met) and 404 (If-Match on nothing) mean: not by this one. */
async function taken(sent: Promise<unknown>): Promise<boolean> {
  try {
    await sent;
    return true;
  } catch (error) {
    const conflict = (error as S3Error).name === 'ConditionalRequestConflict';
    if (isTaken(error) || conflict || (error as S3Error).name === 'NoSuchKey') return false;
    throw error;
  }
}

const absent = (error: unknown): undefined => {
  const { name } = error as S3Error;
  if (name === 'NoSuchKey' || name === 'NotFound') return undefined;
  throw error;
};

async function translated<T>(bucket: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw translate(error, bucket);
  }
}

/** By S3's own error names, then by HTTP status, then by the socket's code. */
export function translate(error: unknown, bucket: string): unknown {
  if (error instanceof GodwitError) return error;
  const { name = '', code = '' } = error as S3Error;
  const status = statusOf(error) ?? 0;
  const options = { cause: error, native: name || code };
  const made = (kind: GodwitError['code'], message: string) => new GodwitError(kind, message, options);
  const known: Readonly<Record<string, GodwitError['code']>> = {
    NoSuchBucket: 'DATABASE_MISSING',
    InvalidAccessKeyId: 'LOGIN_REFUSED',
    SignatureDoesNotMatch: 'LOGIN_REFUSED',
    // versitygw's word for an unknown key.
    XAdminUserNotFound: 'LOGIN_REFUSED',
    ExpiredToken: 'LOGIN_REFUSED',
    InvalidToken: 'LOGIN_REFUSED',
    CredentialsProviderError: 'LOGIN_REFUSED',
    AccessDenied: 'PRIVILEGE_MISSING',
    AllAccessDisabled: 'PRIVILEGE_MISSING',
    PermanentRedirect: 'SETTINGS_INVALID',
    AuthorizationHeaderMalformed: 'SETTINGS_INVALID',
    RequestTimeTooSkewed: 'SERVER_UNSUITABLE',
    XMinioStorageFull: 'TARGET_FULL',
    QuotaExceeded: 'TARGET_FULL',
    ENOTFOUND: 'UNKNOWN_HOST',
    ENOSPC: 'TARGET_FULL',
  };
  const kind = known[name] ?? known[code];
  if (kind) return made(kind, `${sentences[kind] ?? 'The bucket refused'}: bucket ${bucket} (${name || code}).`);
  if (status === 403) return made('PRIVILEGE_MISSING', `The bucket ${bucket} refuses this login (${name}).`);
  if (status === 507) return made('TARGET_FULL', `The bucket ${bucket} has no space left.`);
  if (status === 429 || status === 503) return made('SERVER_BUSY', `The bucket ${bucket} asks to slow down (${name}).`);
  if (/^(CERT_|ERR_TLS|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/.test(code)) {
    return made('TLS_FAILED', `The certificate of bucket ${bucket}'s server is not trusted (${code}).`);
  }
  if (status >= 500 || /^(ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|EAI_AGAIN|UND_)/.test(code) || /Timeout/.test(name)) {
    return made('CONNECTION_FAILED', `The server of bucket ${bucket} did not answer (${code || name || status}).`);
  }
  return made('INTERNAL', `The bucket ${bucket} answered with ${name || status || 'something unforeseen'}.`);
}

const sentences: Readonly<Record<string, string>> = {
  DATABASE_MISSING: 'There is no such bucket',
  LOGIN_REFUSED: 'The access key was refused',
  PRIVILEGE_MISSING: 'This login may not do that',
  SETTINGS_INVALID: 'The region is not that of the bucket',
  SERVER_UNSUITABLE: "The worker's clock differs from the server's by too much",
  TARGET_FULL: 'There is no space left',
  UNKNOWN_HOST: 'The host of the endpoint cannot be resolved',
};

type Checked = {
  readonly client: S3Client;
  readonly store: Store;
  readonly bucket: string;
  readonly prefix: string;
};

async function checkS3({ client, store, bucket, prefix }: Checked): Promise<Check[]> {
  const checks: Check[] = [];
  const pass = (name: string, detail: string) => checks.push({ name, outcome: 'pass', detail });
  const fail = (name: string, error: unknown, fix: string) => {
    const { message } = translate(error, bucket) as Error;
    checks.push({ name, outcome: 'fail', detail: message, fix });
    return checks;
  };

  try {
    await client.send(new HeadBucketCommand({ Bucket: bucket }));
    pass('bucket', `${bucket} is there and this login may see it`);
  } catch (error) {
    // HEAD has no body, so no error name: 404 is the bucket, 403 the login.
    const status = statusOf(error);
    const named = status === 404 ? Object.assign(error as Error, { name: 'NoSuchBucket' }) : error;
    return fail('bucket', named, 'Check the bucket, the credentials, the region and the endpoint.');
  }

  const key = `_godwit/check/${randomBytes(9).toString('hex')}`;
  const text = (value: string) => new TextEncoder().encode(value);
  try {
    const first = await store.putIfAbsent(key, text('1'));
    const second = await store.putIfAbsent(key, text('2'));
    const found = await store.get(key);
    const stale = await store.replaceIf(key, text('3'), `"${createHash('md5').update('no such').digest('hex')}"`);
    const right = found !== undefined && (await store.replaceIf(key, text('4'), found.version));
    if (first && !second && found?.bytes[0] === 49 && !stale && right) {
      pass('conditional put', 'If-None-Match and If-Match are honoured');
    } else {
      const detail = 'the server does not honour If-None-Match or If-Match: two workers could overwrite each other';
      checks.push({ name: 'conditional put', outcome: 'fail', detail, fix: 'Use an S3 that has conditional writes.' });
    }
    let listed = false;
    for await (const object of store.list('_godwit/check/')) listed ||= object.key === key;
    if (listed) pass('list', 'a new object is listed at once');
    else
      checks.push({
        name: 'list',
        outcome: 'fail',
        detail: 'a new object is not listed',
        fix: 'Use an S3 with consistent listing.',
      });
    await store.copy(key, `${key}-copy`);
    pass('copy', 'objects can be copied inside of the bucket');
    const Key = `${prefix}${key}-multipart`;
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key }));
    if (UploadId !== undefined) {
      const upload = { Bucket: bucket, Key, UploadId };
      await client.send(new AbortMultipartUploadCommand(upload)).catch(() => {});
      pass('multipart', 'large parts can be sent in pieces');
    }
  } catch (error) {
    return fail('write', error, 'Allow GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload.');
  } finally {
    await store.delete([key, `${key}-copy`]).catch(() => {});
  }
  // A difference of minutes makes every signature wrong; a pass above proves the clocks near enough.
  pass('clock', 'signatures are accepted');
  return checks;
}
