/** What a plan must know of the target before anything is written there. Writes nothing. */
import type { Db } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { type ExistingTable, swapsIn, type TableName, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { mongoExtras } from '../extras.ts';
import type { ServerFacts, Session } from '../session.ts';
import { collectionNamed } from './collections.ts';
import { keyShapeOf } from './key-shape.ts';
import { keyRefused } from './keys.ts';
import { type Ledger, ledgerOf } from './ledger.ts';
import { wrongName } from './names-allowed.ts';
import { isEmpty, notOwned, ownership } from './ownership.ts';

export async function refusalsOf(
  session: Session,
  ledgerFor: (work: Work) => Ledger,
  work: Work,
): Promise<GodwitError[]> {
  const where = { table: tableText(work.name), target: work.target };
  const facts = await session.facts();
  const wrong = wrongName(work.name, facts);
  if (wrong !== undefined) {
    const long = / bytes/.test(wrong);
    return [new GodwitError(long ? 'NAME_TOO_LONG' : 'MAPPING_INVALID', `${where.table}: ${wrong}.`, where)];
  }
  // Not before its name is known to be one: the driver throws at others.
  const ledger = ledgerFor(work);
  const refused: (GodwitError | undefined)[] = [...fieldNames(work, facts), ...ofSource(work)];
  const found = await ownership(ledger, work);
  refused.push(notOwned(work, found));
  if (work.mode !== 'dumping' && work.swap === 'delete-insert') {
    const message = `${where.table}: MongoDB replaces a collection by giving its name to the new one, all at once; remove \`swap: delete-insert\`.`;
    refused.push(new GodwitError('SWAP_IMPOSSIBLE', message, where));
  }
  if (work.mode === 'mirroring') {
    const keys = keyShapeOf(work);
    if ('refused' in keys) refused.push(keyRefused(work, keys.refused));
  }
  const { there } = found;
  if (there && there.type !== 'collection') {
    const message = `${where.table} exists on the target and is a ${there.type}, no collection.`;
    refused.push(new GodwitError('TARGET_DIFFERS', message, where));
  }
  if (there && swapsIn(work) && (await isSharded(session, facts, work.name))) {
    const message = `${where.table} is sharded, and a sharded collection cannot be replaced by another; drop it first, or write to another name.`;
    refused.push(new GodwitError('SWAP_IMPOSSIBLE', message, where));
  }
  return refused.filter((error) => error !== undefined);
}

function fieldNames(work: Work, { wire }: ServerFacts): GodwitError[] {
  const where = { table: tableText(work.name), target: work.target };
  if (mongoExtras(work.source)?.as === 'raw') return [];
  const errors: GodwitError[] = [];
  const names = work.columns.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  const refuse = (column: string, message: string) =>
    errors.push(new GodwitError('NAME_COLLISION', message, { ...where, column }));
  if (twice !== undefined)
    refuse(twice, `${where.table}: two columns would be the field "${twice}"; rename one with col_rename.`);
  if (names.includes('_id') && !work.key.includes('_id')) {
    refuse(
      '_id',
      `${where.table}: "_id" is where MongoDB has the key, and this column is not in it; rename it with col_rename.`,
    );
  }
  for (const name of names) {
    if (name.includes('\0'))
      refuse(name, `${where.table}: a field's name cannot hold a NUL; rename it with col_rename.`);
    // Since 5.0 a name may begin with a dollar.
    if (name.startsWith('$') && wire < 13) {
      refuse(
        name,
        `${where.table}: before MongoDB 5.0 a field's name cannot begin with "$"; rename "${name}" with col_rename.`,
      );
    }
    if (work.key.includes(name) && name.startsWith('$')) {
      refuse(name, `${where.table}: "_id" cannot hold a name that begins with "$"; rename "${name}" with col_rename.`);
    }
  }
  return errors;
}

/** A time series is of another storage: it cannot be written aside and renamed. */
function ofSource(work: Work): GodwitError[] {
  const extras = mongoExtras(work.source);
  if (extras?.as !== 'raw' || extras.kind !== 'timeseries') return [];
  const where = { table: tableText(work.name), target: work.target };
  const message = `${tableText(work.source.name)} is a time series collection, which cannot be made under another name and then take its own; set \`documents\` to flatten or json.`;
  return [new GodwitError('SWAP_IMPOSSIBLE', message, where)];
}

async function isSharded({ client }: Session, { mongos }: ServerFacts, name: TableName): Promise<boolean> {
  if (!mongos) return false;
  try {
    const collections = client.db('config').collection<{ _id: string; dropped?: boolean }>('collections');
    const found = await collections.findOne({ _id: tableText(name) });
    return found !== null && found.dropped !== true;
  } catch (error) {
    if (numberOf(error) === undefined) throw error;
    return false;
  }
}

/** Documents have no columns: those of an empty list fit all. */
export async function describeTable(db: Db, name: TableName): Promise<ExistingTable | undefined> {
  const there = await collectionNamed(db, name.name);
  if (!there) return undefined;
  const owner = await ledgerOf(db).owners.findOne({ _id: name.name });
  const ours = owner?.made === true && (!owner.uuid || !there.uuid || owner.uuid === there.uuid);
  return {
    name,
    columns: [],
    ...(ours ? { owner: owner.job } : {}),
    empty: await isEmpty({ db, there }),
  };
}
