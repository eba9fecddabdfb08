import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { storeContract } from 'nestjs-minibatch/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileStore } from '../../examples/store/file-store.js';
import { StateFile } from '../../examples/store/state-file.js';

storeContract({ describe, it, beforeEach, afterEach }, 'FileStore', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'file-store-'));
  const file = new StateFile(join(folder, 'state'));
  return {
    store: new FileStore(file),
    another: () => new FileStore(file),
    dispose: () => rm(folder, { recursive: true, force: true }),
  };
});

describe('FileStore', () => {
  const message = (n: number) => ({ stream: 's', data: { n, big: 1n }, created: new Date(0) });
  const key = { stream: 's', group: 'default', partition: 0 };
  const all = { messages: 100, bytes: 1e9 };
  let folder: string;
  let path: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'file-store-'));
    path = join(folder, 'state');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  async function open(): Promise<FileStore> {
    const store = new FileStore(new StateFile(path));
    await store.open();
    return store;
  }

  it('has in its file what it has acknowledged', async () => {
    const store = await open();
    await store.registerGroup(key);
    const outcomes = await Promise.all([1, 2, 3].map((n) => store.append([message(n)])));
    const again = await open();
    const { messages } = await again.fetch(key, undefined, all);
    expect(messages.map(({ data }) => data)).toEqual([1, 2, 3].map((n) => ({ n, big: 1n })));
    expect(outcomes.flat()).toEqual(messages.map(({ id }) => ({ status: 'stored', id })));
  });

  it('fails with a code where it can not write, and resumes when it can again', async () => {
    const store = await open();
    await rm(folder, { recursive: true });
    await expect(store.append([message(1)])).rejects.toMatchObject({
      code: 'MINIBATCH_STORE_UNAVAILABLE',
      stored: 'unknown',
    });
    await mkdir(folder);
    expect(await store.append([message(2)])).toMatchObject([{ status: 'stored' }]);
    expect((await (await open()).stats())[0]?.buffered).toBe(2);
  });

  it('says what is wrong with a file that it can not read', async () => {
    await writeFile(path, 'no state');
    await expect(open()).rejects.toMatchObject({ code: 'MINIBATCH_STORE_DAMAGED' });
    expect(await readFile(path, 'utf8')).toBe('no state');
  });
});
