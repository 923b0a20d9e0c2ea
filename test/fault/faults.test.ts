import { afterAll, beforeAll, describe } from 'vitest';
import { missing } from '../servers/shared.ts';
import { type Installation, startInstallation } from './installation.ts';
import { control } from './scenarios/control.ts';
import { fullDisk } from './scenarios/disk.ts';
import { fence } from './scenarios/fence.ts';
import { killPoints, randomKills } from './scenarios/kill-points.ts';
import { bucket } from './scenarios/s3.ts';
import { emptyTemporal, serverFaults } from './scenarios/servers.ts';
import { signals } from './scenarios/signals.ts';
import { long } from './settings.ts';

const noS3 = await missing('s3');

/** One installation for all: a scenario must leave it as sound as it found it. That too is a promise. */
describe('faults', () => {
  let installation: Installation;
  const here = () => installation;
  beforeAll(async () => {
    installation = await startInstallation({ workers: 3 });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
  });

  killPoints(here);
  randomKills(here, long ? 30 : 5);
  fence(here);
  signals(here);
  serverFaults(here);
  control(here, long ? 10 : 3);
  if (!noS3) bucket(here, long ? 10 : 2);
  fullDisk(here);
  emptyTemporal(here);
});
