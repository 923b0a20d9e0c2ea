import { dataSets, noDatasets } from './datasets.ts';
import { fromSource } from './from.ts';
import { everyTypes } from './sides.ts';

await fromSource('every type', 'mariadb', everyTypes.mariadb, 'files');
await fromSource('the data set', 'mariadb', dataSets.mariadb, 's3', noDatasets());
