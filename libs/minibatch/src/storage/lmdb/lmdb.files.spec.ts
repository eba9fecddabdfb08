import { execFile, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { thisProcess } from '../../common/process-identity.js';
import { inspectDataFile } from './data-file.js';
import { LmdbStreamStore } from './index.js';

/** What happens to the files from outside. Where LMDB could end the process there is another process to be ended. */
describe('the files of LmdbStreamStore', () => {
  let root: string;
  let path: string;
  let data: string;
  let store: LmdbStreamStore;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'minibatch-lmdb-'));
    path = join(root, 'store');
    data = join(path, 'data.mdb');
    store = new LmdbStreamStore({ path });
  });
  afterEach(async () => {
    await store.close();
    rmSync(root, { recursive: true, force: true });
  });

  const messages = (count: number, size = 200) =>
    Array.from({ length: count }, (_, n) => ({
      stream: 's',
      data: { n, filling: 'x'.repeat(size) },
      created: new Date(),
    }));
  const fill = async () => {
    await store.open();
    await store.append(messages(3_000));
    // Values on pages of their own.
    await store.append(messages(3, 50_000));
    await store.close();
  };
  describe('lets', () => {
    const modes = (directory: string) =>
      Object.fromEntries(
        ['', ...readdirSync(directory)].map((name) => [
          name.replace(/^owner-.*/, 'owner'),
          (statSync(join(directory, name)).mode & 0o777).toString(8),
        ]),
      );
    let umask: number;
    beforeEach(() => void (umask = process.umask(0o022)));
    afterEach(() => void process.umask(umask));

    it('nobody but its owner read what it makes, and the parent be as it was asked of the system', async () => {
      path = join(root, 'parent', 'store');
      store = new LmdbStreamStore({ path });
      await store.open();
      await store.append(messages(1));
      expect(modes(path)).toEqual({ '': '700', 'data.mdb': '600', 'lock.mdb': '600', owner: '600' });
      expect((statSync(join(root, 'parent')).mode & 0o777).toString(8)).toBe('755');
    });

    it('others read and write it if asked to, as far as the umask allows', async () => {
      process.umask(0o002);
      store = new LmdbStreamStore({ path, mode: 0o664 });
      await store.open();
      await store.append(messages(1));
      expect(modes(path)).toEqual({ '': '775', 'data.mdb': '664', 'lock.mdb': '664', owner: '664' });
    });

    it('files that are there keep their permissions', async () => {
      mkdirSync(path, { mode: 0o755 });
      const first = new LmdbStreamStore({ path, mode: 0o644 });
      await first.open();
      await first.close();
      await store.open();
      await store.append(messages(1));
      expect(modes(path)).toMatchObject({ '': '755', 'data.mdb': '644', 'lock.mdb': '644' });
    });
  });

  const fixture = fileURLToPath(new URL('../../../../../test/fixtures/lmdb/open.mjs', import.meta.url));
  const openElsewhere = async (...wrapper: string[]): Promise<Record<string, unknown>> => {
    const [command = process.execPath, ...args] = wrapper.length > 0 ? [...wrapper, process.execPath] : [];
    const { stdout } = await promisify(execFile)(command, [...args, fixture, path], { timeout: 60_000 });
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  const append = () => store.append(messages(1));

  describe('when it opens', () => {
    it('refuses a data file that was cut off, wherever', async () => {
      await fill();
      const whole = join(root, 'whole.mdb');
      copyFileSync(data, whole);
      const { size } = statSync(data);
      for (const left of [size - 4096, Math.floor(size / 2), 12 * 4096, 3 * 4096, 2 * 4096, 100]) {
        copyFileSync(whole, data);
        truncateSync(data, left);
        expect(await openElsewhere(), `${left} of ${size} bytes`).toMatchObject({
          code: left === 100 ? ErrorCode.StorePath : ErrorCode.StoreDamaged,
          message: expect.stringContaining(data) as unknown,
        });
      }
      copyFileSync(whole, data);
      expect(await openElsewhere()).toMatchObject({ count: 3_003 });
    });

    it('takes a file that ends before pages that are free', async () => {
      await fill();
      const { size } = statSync(data);
      const bytes = readFileSync(data);
      // As after a transaction that took pages at the end and gave them back before it ended.
      for (const meta of [0, 4096]) bytes.writeBigUInt64LE(BigInt(size / 4096 + 3), meta + 144);
      writeFileSync(data, bytes);
      expect(inspectDataFile(data)).toBe('sound');
      expect(await openElsewhere()).toMatchObject({ count: 3_003 });
    });

    it('refuses a data file that was emptied, unless nothing was ever in it', async () => {
      await fill();
      truncateSync(data, 0);
      await expect(store.open()).rejects.toMatchObject({
        code: ErrorCode.StoreDamaged,
        message: expect.stringContaining('is empty') as unknown,
        details: { path: data },
      });
      rmSync(join(path, 'lock.mdb'));
      await store.open();
      expect(await append()).toMatchObject([{ status: 'stored' }]);
    });

    it('refuses another mark or format on either of its first pages, and what is not a file', async () => {
      await fill();
      const whole = readFileSync(data);
      for (const at of [24, 28, 4096 + 24, 4096 + 28]) {
        const bytes = Buffer.from(whole);
        bytes.writeUInt32LE(7, at);
        writeFileSync(data, bytes);
        expect(await openElsewhere()).toMatchObject({
          code: at < 4096 ? ErrorCode.StorePath : ErrorCode.StoreDamaged,
        });
      }
      writeFileSync(data, whole);
      rmSync(join(path, 'lock.mdb'));
      mkdirSync(join(path, 'lock.mdb'));
      await expect(store.open()).rejects.toMatchObject({ code: ErrorCode.StorePath });
    });
  });

  describe('while it is open', () => {
    const lost = {
      code: ErrorCode.StoreLost,
      message: expect.stringContaining('removed, renamed or replaced') as unknown,
    };
    const changes: Record<string, () => void> = {
      'its directory is removed': () => rmSync(path, { recursive: true }),
      'its directory is renamed': () => renameSync(path, join(root, 'elsewhere')),
      'its data file is removed': () => rmSync(data),
      'its lock file is removed': () => rmSync(join(path, 'lock.mdb')),
      'its data file is replaced': () => {
        copyFileSync(data, join(root, 'copy'));
        renameSync(join(root, 'copy'), data);
      },
      'its lock file is replaced': () => {
        copyFileSync(join(path, 'lock.mdb'), join(root, 'copy'));
        renameSync(join(root, 'copy'), join(path, 'lock.mdb'));
      },
    };
    for (const [what, change] of Object.entries(changes)) {
      it(`acknowledges, reads and holds nothing any more when ${what}`, async () => {
        await store.open();
        const key = { stream: 's', group: 'default', partition: 0 };
        await store.registerGroup(key);
        const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
        const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
        await append();
        change();
        // For a moment nothing is noticed.
        const failure: unknown = await (async () => {
          for (;;) {
            await append();
          }
        })().catch((error: unknown) => error);
        expect(failure).toMatchObject({ ...lost, name: 'AppendError' });
        await expect(append()).rejects.toMatchObject({ ...lost, stored: 'no' });
        await expect(store.renewLeases([lease])).rejects.toMatchObject(lost);
        await expect(store.fetch(key, undefined, { messages: 1, bytes: 1 })).rejects.toMatchObject(lost);
        await expect(store.stats()).rejects.toMatchObject(lost);
      });
    }

    it('continues when its directory is back', async () => {
      await store.open();
      renameSync(path, join(root, 'elsewhere'));
      await expect(
        (async () => {
          for (;;) await append();
        })(),
      ).rejects.toMatchObject(lost);
      renameSync(join(root, 'elsewhere'), path);
      expect(await append()).toMatchObject([{ status: 'stored' }]);
    });
  });

  describe('that a process uses which can not share them', () => {
    const records = () => readdirSync(path).filter((name) => name.startsWith('owner-'));
    const [boot] = thisProcess().bootId.split('/');
    const record = (change: object) => {
      mkdirSync(path, { recursive: true });
      const file = join(path, 'owner-other.json');
      writeFileSync(file, JSON.stringify({ ...thisProcess(), ...change }));
      return file;
    };
    const elsewhere = {
      'another container with the same pid': { bootId: `${boot}/pid:[1]` },
      'another host': { bootId: 'other/pid:[1]', pid: 7, host: 'other' },
    };
    for (const [who, change] of Object.entries(elsewhere)) {
      it(`refuses to open while it is open in ${who}, at once`, async () => {
        const file = record(change);
        const beat = setInterval(() => utimesSync(file, new Date(), new Date()), 20);
        try {
          await expect(store.open()).rejects.toMatchObject({ code: ErrorCode.StoreInUse });
          expect(records()).toEqual(['owner-other.json']);
        } finally {
          clearInterval(beat);
        }
      });

      it(`opens where ${who} has died`, async () => {
        const file = record(change);
        const before = new Date(Date.now() - 60_000);
        utimesSync(file, before, before);
        await store.open();
        expect(records()).toHaveLength(1);
        expect(records()).not.toContain('owner-other.json');
        await store.close();
        expect(records()).toEqual([]);
      });
    }

    it('opens next to another container with another pid, and next to a process of its own', async () => {
      const file = record({ bootId: `${boot}/pid:[1]`, pid: process.pid + 1 });
      utimesSync(file, new Date(), new Date());
      await store.open();
      expect(await openElsewhere()).toMatchObject({ count: 0 });
      expect(records()).toHaveLength(2);
    });

    it('refuses two real processes of one pid in two namespaces', async () => {
      const wrapper = ['unshare', '--pid', '--fork', '--mount-proc'];
      const permitted = spawnSync(wrapper[0]!, [...wrapper.slice(1), 'true']).status === 0;
      if (!permitted) {
        // Where namespaces are not to be had: a record as such a process writes it.
        const file = record({ bootId: `${boot}/pid:[1]` });
        const beat = setInterval(() => utimesSync(file, new Date(), new Date()), 20);
        await expect(store.open()).rejects.toMatchObject({ code: ErrorCode.StoreInUse });
        clearInterval(beat);
        return;
      }
      const script = `
        import { LmdbStreamStore } from 'nestjs-minibatch/lmdb';
        const store = new LmdbStreamStore({ path: ${JSON.stringify(path)} });
        await store.open();
        await store.append([{ stream: 's', data: 1, created: new Date() }]);
        console.log(process.pid);
        setInterval(() => undefined, 1000);`;
      const first = execFile(wrapper[0]!, [
        ...wrapper.slice(1),
        '--kill-child',
        process.execPath,
        '--input-type=module',
        '-e',
        script,
      ]);
      try {
        const pid = await new Promise((resolve) => first.stdout?.once('data', (line: string) => resolve(Number(line))));
        expect(await openElsewhere(...wrapper)).toMatchObject({ code: ErrorCode.StoreInUse, pid });
      } finally {
        first.kill('SIGKILL');
      }
    });
  });
});
