/** A worker as a process of its own: `godwit worker`. SIGTERM and SIGINT stop it in order; a second one at once. */
import { readConfig } from '../config.ts';
import { startWorker } from './run.ts';

const worker = await startWorker(readConfig());
let asked = false;
const stop = () => {
  if (asked) process.exit(1);
  asked = true;
  void worker.stop();
};
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
console.error('The worker is ready.');
await worker.ended;
process.exit(0);
