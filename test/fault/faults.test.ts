import { afterAll, beforeAll, describe } from 'vitest';
import { type Installation, startInstallation } from './installation.ts';
import { control } from './scenarios/control.ts';
import { fullDisk } from './scenarios/disk.ts';
import { fence } from './scenarios/fence.ts';
import { kills } from './scenarios/kills.ts';
import { mutation } from './scenarios/mutation.ts';
import { emptyTemporal, serverFaults } from './scenarios/servers.ts';
import { interruptions, killsInOneRun } from './settings.ts';

/** One installation for all: a scenario must leave it as sound as it found it. That too is a promise. */
describe('faults', async () => {
  let installation: Installation;
  const here = () => installation;
  beforeAll(async () => {
    installation = await startInstallation({ workers: 4 });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
  });

  await kills(here, killsInOneRun);
  fence(here);
  serverFaults(here);
  control(here, interruptions);
  fullDisk(here);
  emptyTemporal(here);
  mutation(here);
});
