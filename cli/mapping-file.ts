import { readFileSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GodwitError } from '../errors.ts';
import { type ParsedMapping, parseMapping } from '../mapping/parse.ts';
import { readText } from '../mapping/read.ts';

const modules = ['.ts', '.mts', '.js', '.mjs'];
const texts = ['.yaml', '.yml', '.json'];

/** `shop.yaml`, `./shop` … are files; `shop` is a job. */
export const isFile = (argument: string): boolean =>
  [...modules, ...texts].includes(extname(argument).toLowerCase()) || /[/\\]/.test(argument);

export type MappingFile = { readonly name: string; readonly mapping: object; readonly parsed: ParsedMapping };

/**
 * Reads a mapping the user gave by file. A module is evaluated here, in the user's own process, never by the API; so are
 * the `env:` references of sources and targets, which are the user's own variables. Throws MAPPING_INVALID,
 * SECRET_UNRESOLVED.
 */
export async function readMappingFile(file: string, env: NodeJS.ProcessEnv = process.env): Promise<MappingFile> {
  const isModule = modules.includes(extname(file).toLowerCase());
  const input = isModule ? await evaluate(file) : readFile(file);
  const parsed = parseMapping(input, { file });
  const plain = (typeof input === 'string' ? readText(input, file).value : input) as Record<string, unknown>;
  const mapping = {
    ...plain,
    name: parsed.document.name,
    source: resolved(plain.source, 'source', env),
    ...(plain.destination ? { destination: absolute(resolved(plain.destination, 'destination', env)) } : {}),
  };
  return { name: parsed.document.name, mapping, parsed };
}

function readFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a folder' : message;
    throw new GodwitError('USAGE', `The mapping ${file} cannot be read: ${why}.`, { cause: error });
  }
}

/** The module's default export, or its `mapping`; a function is called. */
async function evaluate(file: string): Promise<object> {
  let loaded: { default?: unknown; mapping?: unknown };
  try {
    loaded = await import(pathToFileURL(resolve(file)).href);
  } catch (error) {
    const { message } = error as Error;
    throw new GodwitError('MAPPING_INVALID', `The module ${file} cannot be evaluated: ${message}`, { cause: error });
  }
  const exported = loaded.default ?? loaded.mapping;
  const mapping = typeof exported === 'function' ? await exported() : exported;
  if (mapping === null || typeof mapping !== 'object') {
    throw new GodwitError(
      'MAPPING_INVALID',
      `The module ${file} exports no mapping: give it \`export default { … }\`.`,
    );
  }
  return mapping as object;
}

/** `path: ./lake` of a file target means the user's working folder, not the worker's. */
function absolute(destination: unknown): unknown {
  if (destination === null || typeof destination !== 'object') return destination;
  const settled = Object.entries(destination).map(([alias, target]) => {
    const { destination_type: type, path } = (target ?? {}) as { destination_type?: unknown; path?: unknown };
    return [alias, type === 'files' && typeof path === 'string' ? { ...target, path: resolve(path) } : target];
  });
  return Object.fromEntries(settled);
}

/** Every `env:NAME` below a source or destination as the variable's value. */
function resolved(value: unknown, path: string, env: NodeJS.ProcessEnv): unknown {
  if (typeof value === 'string') {
    const name = /^env:(\S+)$/.exec(value)?.[1];
    if (name === undefined) return value;
    const found = env[name];
    if (found !== undefined && found !== '') return found;
    throw Object.assign(
      new GodwitError('SECRET_UNRESOLVED', `${path}: the variable ${name} is not set in this shell.`),
      { fix: `Set it first: export ${name}=…` },
    );
  }
  if (Array.isArray(value)) return value.map((one, i) => resolved(one, `${path}[${i}]`, env));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, resolved(one, `${path}.${key}`, env)]));
}
