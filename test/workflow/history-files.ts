import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import proto from '@temporalio/proto';
import { projectFolder } from '../../config.ts';

/** Gzipped protobuf: the SDK's JSON of a history does not work with every protobufjs beside it. */
const { History } = proto.temporal.api.history.v1;
export type History = proto.temporal.api.history.v1.IHistory;
export const historiesFolder = join(projectFolder, 'test', 'histories');

export async function writeHistory(name: string, history: History): Promise<void> {
  const bytes = History.encode(History.fromObject(withoutStacks(history) as object)).finish();
  await writeFile(join(historiesFolder, `${name}.history`), await promisify(gzip)(bytes));
}

export async function readHistory(file: string): Promise<History> {
  return History.decode(await promisify(gunzip)(await readFile(join(historiesFolder, file))));
}

/** Stacks name folders of the machine that recorded. */
function withoutStacks(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutStacks);
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array || isLong(value)) return value;
  const entries = Object.entries(value).filter(([key]) => key !== 'stackTrace');
  return Object.fromEntries(entries.map(([key, one]) => [key, withoutStacks(one)]));
}

const isLong = (value: object) => 'low' in value && 'high' in value && 'unsigned' in value;
