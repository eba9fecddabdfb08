import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { LmdbStreamStore } from './index.js';

/** Real processes on one path. They import the built package. */
describe('LmdbStreamStore of several processes', () => {
  let path: string;
  let store: LmdbStreamStore;
  const children: ChildProcessByStdio<null, Readable, null>[] = [];

  beforeEach(async () => {
    path = mkdtempSync(join(tmpdir(), 'minibatch-lmdb-'));
    store = new LmdbStreamStore({ path });
    await store.open();
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await store.close();
    rmSync(path, { recursive: true, force: true });
  });

  const fixture = (name: string) =>
    fileURLToPath(new URL(`../../../../../test/fixtures/lmdb/${name}`, import.meta.url));
  const appender = (...args: string[]) => {
    const child = spawn(process.execPath, [fixture('appender.mjs'), path, 's', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    return child;
  };
  const key = { stream: 's', group: 'default', partition: 0 };
  const readAll = async () => {
    const { messages } = await store.fetch(key, undefined, { messages: 1e6, bytes: 1e12 });
    return messages as readonly { id: string; data: { writer: string; n: number }; deduped?: boolean }[];
  };

  it('puts the messages of all into one order, none lost and none twice', async () => {
    const CALLS = 60;
    const writers = ['a', 'b', 'c'];
    const exits = writers.map((writer) => once(appender(writer, String(CALLS)), 'exit'));
    const outcomes = [];
    for (let n = 0; n < CALLS; n += 1) {
      outcomes.push(...(await store.append([{ stream: 's', data: { writer: 'here', n }, created: new Date() }])));
    }
    expect(await Promise.all(exits)).toEqual(writers.map(() => [0, null]));

    const messages = await readAll();
    const ids = messages.map(({ id }) => id);
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
    const of = (writer: string) => messages.filter(({ data }) => data.writer === writer).map(({ data }) => data.n);
    expect(of('here')).toEqual([...Array(CALLS).keys()]);
    const deduped = messages.filter((each) => each.deduped).map(({ data }) => data.n);
    // Every second call of five has the same ids in all writers.
    const shared = Array.from({ length: CALLS * 5 }, (_, n) => n).filter((n) => Math.floor(n / 5) % 2 === 1);
    expect(deduped.sort((a, b) => a - b)).toEqual(shared);
    for (const writer of writers) {
      const own = of(writer);
      expect([...own].sort((a, b) => a - b)).toEqual(own);
      expect(own.filter((n) => Math.floor(n / 5) % 2 === 0)).toHaveLength((CALLS * 5) / 2);
    }
    expect((await store.stats(['s']))[0]?.buffered).toBe(messages.length);
  });

  it('has every acknowledged message of a process that was killed, and continues', async () => {
    for (let round = 0; round < 3; round += 1) {
      const writer = `killed-${round}`;
      const child = appender(writer);
      const exit = once(child, 'exit');
      let acknowledged = -1;
      let acks = 0;
      for await (const line of createInterface({ input: child.stdout })) {
        acknowledged = Number(line);
        acks += 1;
        if (acks === 30 + round * 7) child.kill('SIGKILL');
      }
      expect((await exit)[1]).toBe('SIGKILL');
      expect(acknowledged).toBeGreaterThan(100);

      const own = (await readAll()).filter(({ data }) => data.writer === writer).map(({ data }) => data.n);
      // Those with a dedupe id may have been stored by the writer before.
      const expected = Array.from({ length: acknowledged + 1 }, (_, n) => n).filter((n) => Math.floor(n / 5) % 2 === 0);
      expect(own.filter((n) => n <= acknowledged && Math.floor(n / 5) % 2 === 0)).toEqual(expected);
      const [outcome] = await store.append([{ stream: 's', data: { writer: 'here', n: round }, created: new Date() }]);
      expect(outcome?.status).toBe('stored');
    }
    expect((await store.stats(['s']))[0]?.buffered).toBe((await readAll()).length);
  });

  it('notices by a poll what another process appended', async () => {
    const [before] = await store.poll([key]);
    await once(appender('a', '1'), 'exit');
    const [after] = await store.poll([key]);
    expect(after).not.toBe(before);
    expect(await readAll()).toHaveLength(5);
  });

  it('neither loses nor doubles a message when a process is killed in the middle of a redrive', async () => {
    const COUNT = 6_000;
    await store.registerGroup(key);
    const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
    const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
    const data = (n: number) => ({ writer: 'here', n, filling: 'x'.repeat(200) });
    await store.append(Array.from({ length: COUNT }, (_, n) => ({ stream: 's', data: data(n), created: new Date() })));
    const { messages } = await store.fetch(key, undefined, { messages: COUNT, bytes: 1e12 });
    const note = { window: 'w', consumer: 'A.b', attempts: 1, error: 'no', died: new Date() };
    await store.bury(
      lease,
      messages.map((message) => ({ message, ...note })),
    );
    const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
    await store.settle(lease, [{ window, messages }], { groups: ['default'], keep: false });

    const script = `
      import { LmdbStreamStore } from 'nestjs-minibatch/lmdb';
      const store = new LmdbStreamStore({ path: ${JSON.stringify(path)} });
      await store.open();
      await store.redrive('s', {});
      setInterval(() => undefined, 1000);`;
    const stats = async () => (await store.stats(['s']))[0]!;
    for (const share of [1, 3]) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(child);
      const exit = once(child, 'exit');
      while ((await stats()).buffered < (COUNT * share) / 6) await new Promise((resolve) => setTimeout(resolve, 1));
      child.kill('SIGKILL');
      await exit;
      const { buffered, deadLetters } = await stats();
      expect(buffered + deadLetters).toBe(COUNT);
    }
    const left = (await stats()).deadLetters;
    expect(await store.redrive('s', {})).toBe(left);
    expect((await readAll()).map(({ data: { n } }) => n)).toEqual([...Array(COUNT).keys()]);
    expect(await stats()).toMatchObject({ buffered: COUNT, deadLetters: 0 });
  });

  it('loses no message, and doubles none that waits, when a process is killed in the middle of a replay', async () => {
    const COUNT = 6_000;
    await store.registerGroup(key);
    await store.registerGroup({ ...key, group: 'other' });
    const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
    const data = (n: number) => ({ writer: 'here', n, filling: 'x'.repeat(200) });
    await store.append(Array.from({ length: COUNT }, (_, n) => ({ stream: 's', data: data(n), created: new Date() })));
    const limits = { messages: COUNT, bytes: 1e12 };
    const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
    for (const group of ['default', 'other']) {
      const consumer = { ...key, group };
      const lease = (await store.acquireLease(consumer, owner, { fence: 0, counter: 0 }))!;
      const { messages } = await store.fetch(consumer, undefined, limits);
      await store.settle(lease, [{ window, messages }], { groups: ['default', 'other'], keep: true });
    }

    const script = `
      import { LmdbStreamStore } from 'nestjs-minibatch/lmdb';
      const store = new LmdbStreamStore({ path: ${JSON.stringify(path)} });
      await store.open();
      await store.replay('s', 'default', {});
      setInterval(() => undefined, 1000);`;
    const buffered = async () => (await store.stats(['s']))[0]!.buffered;
    for (const share of [1, 3]) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(child);
      const exit = once(child, 'exit');
      while ((await buffered()) < (COUNT * share) / 6) await new Promise((resolve) => setTimeout(resolve, 1));
      child.kill('SIGKILL');
      await exit;
    }
    const before = await buffered();
    expect(await store.replay('s', 'default', {})).toBe(COUNT - before);
    expect((await readAll()).map(({ data: { n } }) => n)).toEqual([...Array(COUNT).keys()]);
    expect((await store.fetch({ ...key, group: 'other' }, undefined, limits)).messages).toEqual([]);
    expect((await store.readKept('s', undefined, limits)).messages).toHaveLength(COUNT);
  });

  it('has the rows and the messages of a commit, or neither, when a process is killed while it commits', async () => {
    const script = `
      import { LmdbStreamStore } from 'nestjs-minibatch/lmdb';
      const store = new LmdbStreamStore({ path: ${JSON.stringify(path)} });
      await store.open();
      const key = ${JSON.stringify(key)};
      await store.registerGroup(key);
      const [state] = await store.readLeases([key]);
      const lease = await store.acquireLease(key, { id: String(process.pid), host: '', bootId: '', pid: 1, startTime: '' }, state);
      const { progress } = await store.recover(lease);
      for (let seq = progress.lastSeq + 1; ; seq += 1) {
        const put = ['a', 'b'].map((slot) => ({ slot, value: Buffer.from(String(seq)), due: new Date(seq) }));
        const append = ['r', 's'].map((stream) => ({ stream, data: { n: seq }, created: new Date() }));
        const stands = { lastSeq: seq, windows: seq, messages: 0 };
        await store.commit(lease, { finished: [seq], progress: stands, effects: new Map([[seq, { put, append }]]) });
        process.stdout.write(seq + '\\n');
      }`;
    for (let round = 0; round < 4; round += 1) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(child);
      let acknowledged = 0;
      let count = 0;
      for await (const line of createInterface({ input: child.stdout })) {
        acknowledged = Number(line);
        count += 1;
        if (count === 40 + round) child.kill('SIGKILL');
      }
      const rows = await store.readState(key, ['a', 'b']);
      const [last, other] = rows.map(({ value }) => Number(Buffer.from(value)));
      expect([other, last! >= acknowledged]).toEqual([last, true]);
      const due = await store.dueState(key, new Date(1e9), undefined, { rows: 10, bytes: 1000 });
      expect(due.map((row) => row.due?.getTime())).toEqual([last, last]);
      const once = Array.from({ length: last! }, (_, n) => n + 1);
      for (const stream of ['r', 's']) {
        await store.registerGroup({ ...key, stream });
        const { messages } = await store.fetch({ ...key, stream }, undefined, { messages: 1e6, bytes: 1e12 });
        expect(messages.map(({ data }) => (data as { n: number }).n)).toEqual(once);
      }
    }
  });

  it('says what is known of an append on a full disk, and lives on', async () => {
    const script = `ulimit -f 2000; exec "${process.execPath}" "${fixture('full-disk.mjs')}" "${join(path, 'full')}"`;
    const { stdout } = await promisify(execFile)('bash', ['-c', script]);
    const { stored, failure, again, codes, before, settled, refilled, effects } = JSON.parse(stdout) as Record<
      string,
      unknown
    >;
    expect(failure).toMatchObject({ name: 'AppendError', code: ErrorCode.StoreUnavailable, stored: 'unknown' });
    expect(again).toBe(ErrorCode.StoreUnavailable);
    expect(codes).toEqual([`AppendError ${ErrorCode.StoreUnavailable}`]);
    expect(before).toBe(stored);
    expect(settled).toBe(Number(stored) - 200);
    expect(refilled).toBe(Number(stored) - 150);
    const refused = { refused: ErrorCode.StoreUnavailable, rows: [], results: 0 };
    expect(effects).toEqual({ ...refused, again: 'committed', after: [[10], 1] });
  });

  it('says what to install where the package lmdb is missing', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [fixture('without-lmdb.mjs'), join(path, 'none')]);
    expect(JSON.parse(stdout)).toMatchObject({
      code: ErrorCode.MissingPackage,
      message: expect.stringContaining('npm install lmdb') as unknown,
    });
  });
});
