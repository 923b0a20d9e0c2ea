import { join } from 'node:path';
import type { Installation } from './installation.ts';
import type { Mapping, Shop } from './job.ts';
import type { Folders } from './verify.ts';

/** The shop's mapping with a second target: Parquet in a local folder. */
export const both = (at: Installation, shop: Shop): Mapping => ({
  ...shop.mapping,
  destination: { ...(shop.mapping.destination as object), lake: lake(at, shop) },
});
export const onlyFiles = (at: Installation, shop: Shop): Mapping => ({
  ...shop.mapping,
  destination: { lake: lake(at, shop) },
});

const lake = (at: Installation, shop: Shop) => ({
  destination_type: 'files',
  path: join(at.files, shop.name),
  schema: 'shop',
  format: 'parquet',
});
export const lakeOf = (at: Installation, shop: Shop): Folders => ({ lake: join(at.files, shop.name, 'shop') });
