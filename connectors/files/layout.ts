/**
 * Where everything lies, relative to the target's root:
 *
 *     <schema>/<table>/part-….parquet                 what readers read; Hive folders between when partitioned
 *     <schema>/<table>/_manifest.json                 exactly the current parts
 *     <schema>/<table>/_current.sql                   of incremental modes: the latest of each key, for DuckDB
 *     <schema>/<table>/_godwit/owner.json             whose table this is
 *     <schema>/<table>/_godwit/recent-….parquet       of incremental modes: digests of the rows that came last (recent.ts)
 *     _godwit/staging/<job>/<target>/<schema>/<table>/<run>.<generation>/
 *         chunks/<chunk>/<slot>.json                  claims and commits (commits.ts)
 *         parts/<chunk>.<epoch>.<attempt>.<n>.parquet waiting for `publish`
 *         base.json                                   of an increment: the publication it goes on from
 *
 * Hive, Spark, Athena and pyarrow skip names that begin with `_`.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { TableName, Work } from '../contract.ts';

/**
 * A name as one step of a path, reversible and the same on every system: `%XX` for what is a separator, a control
 * character, forbidden on some system, or would hide the folder (a leading `_` or `.`).
 */
export const encodeName = (name: string): string =>
  name
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a path
    .replaceAll(/[\u0000-\u001f\u007f%/\\:*?"<>|]/g, percent)
    .replace(/^[_.]/, percent)
    .replace(/[. ]$/, percent);

const percent = (text: string): string =>
  [...Buffer.from(text)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('');

const join = (...steps: readonly string[]): string => steps.filter((step) => step !== '').join('/');

/** The table's folder, without a slash at the end. */
export const tableFolder = (name: TableName): string => join(encodeName(name.schema), encodeName(name.name));

export const manifestKey = (name: TableName): string => `${tableFolder(name)}/_manifest.json`;
export const ownerKey = (name: TableName): string => `${tableFolder(name)}/_godwit/owner.json`;

/** Of a table's folder. */
export const currentName = '_current.sql';
export const recentFolder = '_godwit/recent-';
export const recentName = (work: Work): string =>
  `${recentFolder}${short(work.jobUid, 8)}-${short(work.run, 12)}-${work.generation}.parquet`;

/** Everything of this job's use of the table, whatever run. */
export const stagingOfTable = ({ jobUid, target, name }: Work): string =>
  `${join('_godwit/staging', encodeName(jobUid), encodeName(target), tableFolder(name))}/`;

export const stagingFolder = (work: Work): string =>
  `${stagingOfTable(work)}${encodeName(work.run)}.${work.generation}/`;

export const baseKey = (work: Work): string => `${stagingFolder(work)}base.json`;

/** Run and generation of a key below `stagingOfTable`. */
export function stagedRun(work: Work, key: string): { run: string; generation: number } | undefined {
  const [folder = ''] = key.slice(stagingOfTable(work).length).split('/');
  const dot = folder.lastIndexOf('.');
  const generation = Number(folder.slice(dot + 1));
  return dot > 0 && Number.isInteger(generation) ? { run: folder.slice(0, dot), generation } : undefined;
}

const digits = (n: number, width: number) => String(n).padStart(width, '0');
const short = (text: string, length: number) => createHash('sha256').update(text).digest('hex').slice(0, length);

export const chunkFolder = (work: Work, chunk: number): string => `${stagingFolder(work)}chunks/${digits(chunk, 6)}/`;
export const slotKey = (work: Work, chunk: number, slot: number): string =>
  `${chunkFolder(work, chunk)}${digits(slot, 6)}.json`;

export const extension = (work: Work): string => work.writeFormat;

/** The published name of a part: from (job, run, generation, chunk, number), no attempt in it. */
export const partPrefix = (work: Work): string =>
  `part-${short(work.jobUid, 8)}-${short(work.run, 12)}-${work.generation}-`;
export const jobPrefix = (work: Work): string => `part-${short(work.jobUid, 8)}-`;

/** A name that no other part ever has. */
export const joinedName = (work: Work): string =>
  `${jobPrefix(work)}joined-${randomBytes(9).toString('hex')}.${extension(work)}`;

type Numbered = { readonly chunk: number; readonly number: number; readonly partition: string };
export const partKey = (work: Work, { chunk, number, partition }: Numbered): string =>
  join(
    tableFolder(work.name),
    partition,
    `${partPrefix(work)}${digits(chunk, 6)}-${digits(number, 4)}.${extension(work)}`,
  );

/** Is this a file that a reader of the table would see? */
export const isVisible = (folder: string, key: string): boolean =>
  !key
    .slice(folder.length + 1)
    .split('/')
    .some((step) => step.startsWith('_') || step.startsWith('.'));
