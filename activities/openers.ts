import type { Config } from '../config.ts';
import type { Source, Target } from '../connectors/contract.ts';
import { registry, type SystemEntry } from '../connectors/registry.ts';
import { type Effective, effectiveEndpoint } from '../db/endpoints.ts';
import type { Db } from '../db/open.ts';
import { GodwitError } from '../errors.ts';
import { sourceSchema } from '../mapping/defaults.ts';
import { resolveReferences } from '../secrets/references.ts';
import type { Sealer } from '../secrets/seal.ts';

export type OpenerInput = {
  readonly db: Db;
  readonly sealer: Sealer;
  readonly config: Pick<Config, 'home' | 'envAllow' | 'fileRoots' | 'spool'>;
};

/** An opened system by its effective settings; secrets are resolved here, in the worker, and nowhere else (decision 29). */
export function createOpeners(input: OpenerInput) {
  const rules = { home: input.config.home, envAllow: input.config.envAllow };
  const entryOf = (type: string): SystemEntry => {
    const entry = (registry as unknown as Record<string, SystemEntry>)[type];
    if (!entry) throw new GodwitError('SETTINGS_INVALID', `There is no system "${type}".`);
    return entry;
  };
  const settingsOf = async ({ type, settings, secrets }: Pick<Effective, 'type' | 'settings' | 'secrets'>) => ({
    ...settings,
    ...(await resolveReferences(secrets, rules)),
    ...(entryOf(type).system === 'files' ? { destination_type: type } : {}),
  });
  const openSource = async (effective: Pick<Effective, 'type' | 'settings' | 'secrets' | 'name'>): Promise<Source> => {
    const load = entryOf(effective.type).source;
    if (!load) throw new GodwitError('SETTINGS_INVALID', `${effective.type} cannot be a source ("${effective.name}").`);
    const { openSource: open } = await load();
    return open((await settingsOf(effective)) as never);
  };
  const openTarget = async (effective: Pick<Effective, 'type' | 'settings' | 'secrets' | 'name'>): Promise<Target> => {
    const load = entryOf(effective.type).target;
    if (!load) throw new GodwitError('SETTINGS_INVALID', `${effective.type} cannot be a target ("${effective.name}").`);
    const { openTarget: open } = await load();
    const environment = { fileRoots: input.config.fileRoots, spool: input.config.spool };
    return open((await settingsOf(effective)) as never, environment as never);
  };
  const effective = (kind: 'source' | 'target', name: string) =>
    effectiveEndpoint(input.db, input.sealer, { kind, name });
  return {
    openSource,
    openTarget,
    source: async (name: string) => openSource(await effective('source', name)),
    target: async (name: string) => openTarget(await effective('target', name)),
    /** Of table names written without one. */
    defaultSchema: async (name: string): Promise<string> => {
      return sourceSchema(await effective('source', name)) ?? '';
    },
  };
}

export type Openers = ReturnType<typeof createOpeners>;
