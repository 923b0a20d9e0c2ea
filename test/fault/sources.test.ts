import { afterAll, beforeAll, describe } from 'vitest';
import { missing, type ServerName } from '../servers/shared.ts';
import { type Installation, startInstallation } from './installation.ts';
import { faultsFrom } from './scenarios/source.ts';
import { onlyKind } from './settings.ts';
import { mongodbSource } from './sources/mongodb.ts';
import { mariadbSource, mysqlSource } from './sources/mysql.ts';

/** Of MySQL and MariaDB one is enough, unless GODWIT_FAULT_TARGET names the other. */
const chosen = [mariadbSource, mongodbSource, mysqlSource].filter(({ name }) =>
  onlyKind ? name === onlyKind : name !== 'mysql',
);

describe('faults on the way from', async () => {
  const there = [];
  for (const source of chosen) if (!(await missing(source.name as ServerName))) there.push(source);
  let installation: Installation;
  beforeAll(async () => {
    installation = await startInstallation({ workers: 3 });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
  });
  for (const source of there) faultsFrom(source, () => installation);
});
