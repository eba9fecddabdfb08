import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

const PACKAGE = repository('libs/minibatch');
const { exports } = JSON.parse(readFileSync(resolve(PACKAGE, 'package.json'), 'utf8')) as {
  readonly exports: Readonly<Record<string, string | { readonly default: string }>>;
};
const ENTRIES = Object.entries(exports).flatMap(([path, target]) =>
  typeof target === 'string' ? [] : [[`nestjs-minibatch${path.slice(1)}`, target.default] as const],
);

/** Names of its own, in a call of its own: Vite resolves each `import` of a test as it resolves those of any module. */
const load = (name: string) => import(/* @vite-ignore */ name) as Promise<Readonly<Record<string, unknown>>>;

describe('the package in tests', () => {
  it.each(ENTRIES)('%s is its source, and one copy of it', async (name, built) => {
    const source = resolve(PACKAGE, built.replace('./dist/', 'src/').replace(/\.js$/, '.ts'));
    const [byName, byPath] = [await load(name), await load(pathToFileURL(source).href)];
    expect(Object.keys(byName).length).toBeGreaterThan(0);
    // Two copies would have two sets of classes: injection tokens and `instanceof` would not meet.
    for (const [key, value] of Object.entries(byPath)) expect(byName[key], key).toBe(value);
  });
});
