import { afterAll, beforeAll, describe } from 'vitest';
import { missing, type ServerName } from '../servers/shared.ts';
import { type Installation, startInstallation } from './installation.ts';
import type { Kind, Running } from './kinds/kind.ts';
import { kinds } from './kinds/kinds.ts';
import { cancelsTowards, faultsTowards, mutantTowards } from './scenarios/kind.ts';
import { atLength, onlyKind } from './settings.ts';

const server: Readonly<Record<string, ServerName>> = { mongodb: 'mongodb', mariadb: 'mariadb', mysql: 'mysql' };

/** Without GODWIT_FAULT_TARGET all but PostgreSQL, of which faults.test.ts asks more, and MySQL beside MariaDB. */
const chosen = kinds.filter(({ name }) => (onlyKind ? name === onlyKind : name !== 'postgres' && name !== 'mysql'));

describe('faults on the way to', async () => {
  const there: Kind[] = [];
  for (const kind of chosen) {
    const name = server[kind.name];
    if (name === undefined || !(await missing(name))) there.push(kind);
  }
  let installation: Installation;
  const targets = new Map<Kind, Running>();
  beforeAll(async () => {
    installation = await startInstallation({ workers: 4 });
    for (const kind of there) targets.set(kind, await kind.start(installation));
  });
  afterAll(async () => {
    for (const target of targets.values()) await target[Symbol.asyncDispose]();
    await installation?.[Symbol.asyncDispose]();
  });
  const at = (kind: Kind) => () => ({ installation, target: targets.get(kind) as Running });

  for (const kind of there) {
    describe(kind.name, () => {
      faultsTowards(kind, at(kind));
      if (atLength) cancelsTowards(kind, at(kind));
    });
  }
  if (atLength) describe.each(there)('$name', (kind) => mutantTowards(kind, at(kind)));
});
