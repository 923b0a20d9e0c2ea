import { dataSets, noDatasets } from './datasets.ts';
import { fromSource } from './from.ts';
import { everyTypes } from './sides.ts';

await fromSource('every type', 'pgsql', everyTypes.pgsql, 'files');
await fromSource('the data set', 'pgsql', dataSets.pgsql, 's3', noDatasets());
