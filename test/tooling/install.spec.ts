import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

interface Locked {
  readonly engines?: { readonly node?: string };
  readonly hasInstallScript?: boolean;
  readonly optional?: boolean;
}
interface Manifest {
  readonly engines: { readonly node: string };
  readonly allowScripts: Readonly<Record<string, boolean>>;
}

// It has no types of its own.
const { minVersion, satisfies } = createRequire(import.meta.url)('semver') as {
  minVersion(range: string): { readonly version: string };
  satisfies(version: string, range: string): boolean;
};

const read = async <T>(file: string) => JSON.parse(await readFile(repository(file), 'utf8')) as T;

/** So that the first thing a contributor sees is not a page of warnings. */
describe('npm ci', async () => {
  const { engines, allowScripts } = await read<Manifest>('package.json');
  const { packages } = await read<{ packages: Record<string, Locked> }>('package-lock.json');
  const installed = Object.entries(packages).filter(([path, { optional }]) => path !== '' && !optional);

  it('installs what runs on every Node that the workspace declares', () => {
    const oldest = minVersion(engines.node).version;
    expect(installed.length).toBeGreaterThan(100);
    const refused = installed.filter(
      ([, { engines: { node } = {} }]) => node !== undefined && !satisfies(oldest, node),
    );
    expect(refused.map(([path, locked]) => `${path}: ${locked.engines?.node}`)).toEqual([]);
  });

  it('is asked about no install script', () => {
    const scripts = Object.entries(packages).filter(([, { hasInstallScript }]) => hasInstallScript === true);
    const names = scripts.map(([path]) => path.split('node_modules/').at(-1) ?? '');
    // macOS alone has fsevents.
    expect(names.filter((name) => allowScripts[name] === undefined && name !== 'fsevents')).toEqual([]);
  });
});
