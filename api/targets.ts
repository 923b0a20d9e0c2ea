import type { ApiDeps } from './deps.ts';
import { endpointRoutes } from './endpoints.ts';

export const targetRoutes = (deps: ApiDeps) => endpointRoutes('target', deps);
