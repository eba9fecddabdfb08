import { cp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { repository, temporaryFolder } from '../support/workspace.js';

/** What a store does, by the methods of the port. Each role is a file of that name in the folder of each store. */
const ROLES = [
  'streams',
  'groups',
  'append',
  'checkpoints',
  'leases',
  'reads',
  'claims',
  'commit',
  'settle',
  'windows',
  'dead-letters',
  'redrive',
  'replay',
  'retention',
  'statistics',
];

/** The role files that a store lacks, as paths: every folder with a `*.store.ts` is a store. */
async function missingRoles(storage: string): Promise<readonly string[]> {
  const folders = (await readdir(storage, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const missing = await Promise.all(
    folders.map(async ({ name }) => {
      const files = await readdir(join(storage, name));
      if (!files.some((file) => file.endsWith('.store.ts'))) return [];
      return ROLES.filter((role) => !files.includes(`${role}.ts`)).map((role) => `${name}/${role}.ts`);
    }),
  );
  return missing.flat();
}

const STORAGE = repository('libs/minibatch/src/storage');

describe('the stores', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
    await cp(STORAGE, folder.path, { recursive: true });
  });
  afterEach(() => folder.dispose());

  it('have the same file for each role', async () => {
    expect(await missingRoles(STORAGE)).toEqual([]);
  });

  it.each(['lmdb', 'memory', 'mongoose', 'postgres'])(
    'would be reported: a role that %s has under another name',
    async (store) => {
      await cp(join(folder.path, store, 'settle.ts'), join(folder.path, store, 'settlement.ts'));
      await rm(join(folder.path, store, 'settle.ts'));
      expect(await missingRoles(folder.path)).toEqual([`${store}/settle.ts`]);
    },
  );
});
