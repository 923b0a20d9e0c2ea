import { dataSets, noDatasets } from './datasets.ts';
import { fromSource } from './from.ts';
import { everyTypes } from './sides.ts';

await fromSource('every type', 'mysql', everyTypes.mysql, 'files');
await fromSource('the data set', 'mysql', dataSets.mysql, 's3', noDatasets());
