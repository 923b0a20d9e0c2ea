import type { OpenAPIHono } from '@hono/zod-openapi';
import { html } from 'hono/html';
import { codes } from '../errors.ts';
import { problemSchema } from './problem.ts';

type Schema = {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly format?: string;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly description?: string;
  readonly anyOf?: readonly Schema[];
};
type Content = Readonly<Record<string, { readonly schema?: Schema }>>;
type Operation = {
  readonly operationId?: string;
  readonly summary?: string;
  readonly tags?: readonly string[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly description?: string;
    readonly schema?: Schema;
  }[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Record<
    string,
    { readonly description: string; readonly content?: Content; readonly $ref?: string }
  >;
};
export type ApiDocument = {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> } & Record<string, unknown>;
};

const documents = new WeakMap<OpenAPIHono, ApiDocument>();

/** OpenAPI 3.1 from the schemas that validate; every operation may answer a problem. Made once per app. */
export function openApi(app: OpenAPIHono): ApiDocument {
  const known = documents.get(app);
  if (known) return known;
  app.openAPIRegistry.register('Problem', problemSchema);
  app.openAPIRegistry.registerComponent('securitySchemes', 'token', {
    type: 'http',
    scheme: 'bearer',
    description: 'GODWIT_TOKEN, where the API was started with one',
  });
  const made = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Godwit',
      version: '1',
      description: 'Durable data migration. Failures are application/problem+json with a stable `code`.',
      license: { name: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{}, { token: [] }],
  }) as unknown as ApiDocument;
  const problem = {
    description: 'It did not work: code, title, detail, fix, where',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  };
  for (const operations of Object.values(made.paths)) {
    for (const operation of Object.values(operations)) operation.responses.default = problem;
  }
  documents.set(app, made);
  return made;
}

/** A page without scripts and without anything from elsewhere: it works where there is no internet. */
export function docsPage(document: ApiDocument) {
  const operations = Object.entries(document.paths).flatMap(([path, byMethod]) =>
    Object.entries(byMethod).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = [...new Set(operations.map(({ operation }) => operation.tags?.[0] ?? ''))];
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${document.info.title} API</title>
<meta name="viewport" content="width=device-width"><style>${style}</style></head><body><main>
<h1>${document.info.title} API</h1>
<p>${document.info.description} Machine-readable: <a href="/api/openapi.json">/api/openapi.json</a>.
Lists are paged: ask again with <code>cursor</code> = the <code>next</code> of the answer before.
A start takes <code>Idempotency-Key</code>. Progress is pushed at <code>/ws</code>: send
<code>{"type":"subscribe","run":"ID"}</code> (or <code>"all"</code>), receive <code>run</code>, <code>table</code> and
<code>event</code>.</p>
<nav>${tags.map((tag) => html`<a href="#${tag}">${tag}</a> `)}<a href="#schemas">schemas</a> <a href="#codes">codes</a></nav>
${tags.map(
  (tag) =>
    html`<h2 id="${tag}">${tag}</h2>${operations.filter(({ operation }) => operation.tags?.[0] === tag).map(showOperation)}`,
)}
<h2 id="schemas">schemas</h2>
${Object.entries(document.components.schemas).map(
  ([name, schema]) =>
    html`<details id="schema-${name}"><summary><code>${name}</code> ${schema.description ?? ''}</summary>${showSchema(schema)}</details>`,
)}
<h2 id="codes">codes</h2>
<table>${Object.entries(codes).map(
    ([code, { status, means, fix }]) =>
      html`<tr><td><code>${code}</code></td><td>${status}</td><td>${means} ${fix}</td></tr>`,
  )}</table>
</main></body></html>`;
}

function showOperation({ path, method, operation }: { path: string; method: string; operation: Operation }) {
  const { parameters = [], requestBody, responses, summary } = operation;
  return html`<details id="${operation.operationId}"><summary><b class="${method}">${method}</b> <code>${path}</code> ${summary ?? ''}</summary>
${
  parameters.length > 0
    ? html`<table>${parameters.map(
        (one) =>
          html`<tr><td><code>${one.name}</code></td><td>${one.in}${one.required ? ', required' : ''}</td><td>${typeOf(one.schema)} ${one.description ?? one.schema?.description ?? ''}</td></tr>`,
      )}</table>`
    : ''
}
${requestBody ? html`<h4>Body</h4>${Object.entries(requestBody.content).map(([type, { schema }]) => html`<p>${type}</p>${showSchema(schema)}`)}` : ''}
${Object.entries(responses).map(
  ([status, { description, content }]) =>
    html`<h4>${status}: ${description}</h4>${Object.values(content ?? {}).map(({ schema }) => showSchema(schema))}`,
)}</details>`;
}

const refName = (schema: Schema): string => schema.$ref?.split('/').at(-1) ?? '';

function typeOf(schema: Schema | undefined): string | ReturnType<typeof html> {
  if (!schema) return '';
  if (schema.$ref) return html`<a href="#schema-${refName(schema)}">${refName(schema)}</a>`;
  if (schema.enum) return schema.enum.join(' | ');
  if (schema.anyOf) return html`${schema.anyOf.map((one, i) => html`${i > 0 ? ' | ' : ''}${typeOf(one)}`)}`;
  if (schema.items) return html`list of ${typeOf(schema.items)}`;
  return [schema.type ?? 'anything', schema.format].flat().filter(Boolean).join(', ');
}

function showSchema(schema: Schema | undefined): ReturnType<typeof html> | string {
  if (!schema) return '';
  if (!schema.properties) return html`<p>${typeOf(schema)} ${schema.description ?? ''}</p>`;
  return html`<table>${Object.entries(schema.properties).map(
    ([name, one]) =>
      html`<tr><td><code>${name}</code>${schema.required?.includes(name) ? '' : '?'}</td><td>${typeOf(one)}</td><td>${one.description ?? ''}</td></tr>`,
  )}</table>`;
}

const style = `:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}main{max-width:64rem;margin:2rem auto;padding:0 1rem}
summary{cursor:pointer;padding:.3rem 0}details{border-bottom:1px solid #8884}b{display:inline-block;min-width:4.5rem;font-family:monospace}
.GET{color:#2a7}.POST{color:#27c}.PUT{color:#b70}.DELETE{color:#c33}table{border-collapse:collapse;margin:.3rem 0 .8rem 1rem}
td{padding:.1rem .8rem .1rem 0;vertical-align:top}h4{margin:.6rem 0 0 1rem}p{margin:.3rem 0 .3rem 1rem}h1+p{margin-left:0}`;
