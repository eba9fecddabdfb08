import { afterEach, describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { ConsumerState } from './engine.interface.js';
import { LEASE, Process, STREAM } from './process.spec.support.js';

describe('a running consumer', () => {
  let p: Process;

  const start = async () => {
    p = await new Process(new MemoryDatabase()).consumer({ size: 1 }).start();
    await p.append(1);
    expect(p.values).toEqual([1]);
  };
  const groups = async () => (await p.store.describeStream(STREAM))?.groups;

  afterEach(async () => {
    const stopping = p.engine.stop(0);
    await p.advance(10_000);
    await stopping;
  });

  it('registers again when its stream was dropped', async () => {
    await start();
    const registered = await groups();
    await p.store.dropStream(STREAM);
    await p.advance(LEASE / 2);
    expect(await groups()).toEqual(registered);
    expect(p.engine.status()[0]?.state).toBe(ConsumerState.Running);
    await p.append(2);
    expect(p.values).toEqual([1, 2]);
    expect((await p.store.stats([STREAM]))[0]?.buffered).toBe(0);
    const log = p.logged.join('\n');
    expect(log).toContain('is gone from the store');
    expect(log).not.toContain('another process');
  });

  it('does not when its group was removed, and says so', async () => {
    await start();
    const [group = ''] = (await groups()) ?? [];
    await p.store.removeGroup(STREAM, group);
    await p.advance(LEASE);
    expect(await groups()).toEqual([]);
    const log = p.logged.join('\n');
    expect(log).toContain(`group '${group}' was removed`);
    expect(log).not.toContain('another process');
  });
});
