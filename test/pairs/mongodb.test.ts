import { dataSets, noDatasets } from './datasets.ts';
import { fromSource } from './from.ts';
import { everyTypes } from './sides.ts';

await fromSource('every type', 'mongo', everyTypes.mongo);
await fromSource('the data set', 'mongo', dataSets.mongo, noDatasets());
