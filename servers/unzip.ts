import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { dirname, join, normalize, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw } from 'node:zlib';

type Entry = {
  readonly name: string;
  readonly method: number;
  readonly packed: number;
  readonly size: number;
  readonly at: number;
};

/**
 * Unpacks the wanted files of a zip archive (a wheel, a jar) below `target` and returns their paths. Stored and
 * deflated files under 4 GB, which is what the registries have; for anything else it throws.
 */
export async function unzip(archive: string, target: string, wanted: (name: string) => boolean): Promise<string[]> {
  const written: string[] = [];
  for (const entry of (await directory(archive)).filter(({ name }) => !name.endsWith('/') && wanted(name))) {
    const path = join(target, normalize(entry.name));
    if (!path.startsWith(normalize(target) + sep)) throw new Error(`${entry.name} lies outside the archive`);
    await mkdir(dirname(path), { recursive: true });
    const start = await dataStart(archive, entry);
    const from = createReadStream(archive, { start, end: start + Math.max(entry.packed, 1) - 1 });
    const to = createWriteStream(path);
    if (entry.method === 8) await pipeline(from, createInflateRaw(), to);
    else if (entry.method === 0 && entry.packed > 0) await pipeline(from, to);
    else throw new Error(`${entry.name} is packed in a way that is not understood`);
    if (to.bytesWritten !== entry.size) throw new Error(`${entry.name} is incomplete`);
    written.push(path);
  }
  return written;
}

async function directory(archive: string): Promise<Entry[]> {
  await using file = await open(archive);
  const { size } = await file.stat();
  // The end record is in the last 64 KB: 22 bytes and a comment.
  const tail = Buffer.alloc(Math.min(size, 65_557));
  await file.read(tail, 0, tail.length, size - tail.length);
  const end = tail.lastIndexOf(Buffer.from('PK\x05\x06'));
  if (end < 0) throw new Error(`${archive} is no zip archive`);
  const list = Buffer.alloc(tail.readUInt32LE(end + 12));
  await file.read(list, 0, list.length, tail.readUInt32LE(end + 16));
  const entries: Entry[] = [];
  for (let at = 0; at + 46 <= list.length && list.readUInt32LE(at) === 0x02014b50; ) {
    const nameLength = list.readUInt16LE(at + 28);
    entries.push({
      name: list.toString('utf8', at + 46, at + 46 + nameLength),
      method: list.readUInt16LE(at + 10),
      packed: list.readUInt32LE(at + 20),
      size: list.readUInt32LE(at + 24),
      at: list.readUInt32LE(at + 42),
    });
    at += 46 + nameLength + list.readUInt16LE(at + 30) + list.readUInt16LE(at + 32);
  }
  return entries;
}

/** After the local header, whose extra field may have another length than the directory's. */
async function dataStart(archive: string, entry: Entry): Promise<number> {
  await using file = await open(archive);
  const header = Buffer.alloc(30);
  await file.read(header, 0, 30, entry.at);
  return entry.at + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
}
