import { dataSets, noDatasets } from './datasets.ts';
import { fromSource } from './from.ts';
import { everyTypes } from './sides.ts';

await fromSource('every type', 'mongo', everyTypes.mongo, 'files');
await fromSource('the data set', 'mongo', dataSets.mongo, 's3', noDatasets());
