import { describe, expect, it } from 'vitest';
import { ResultRefused } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { Process, STREAM } from './process.spec.support.js';

const key = { stream: STREAM, group: 'default', partition: 0 };

class Target {
  readonly taken: unknown[] = [];
  tries = 0;
  error: Error | undefined;

  constructor(readonly name: string) {}

  readonly sink = {
    put: (result: unknown): void => {
      this.tries += 1;
      if (this.error) throw this.error;
      this.taken.push(result);
    },
  };
}

function setUp() {
  const database = new MemoryDatabase();
  const plain = new MemoryStreamStore(database);
  const [ledger, mail] = [new Target('Ledger'), new Target('Mail')];
  return {
    database,
    plain,
    ledger,
    mail,
    buffered: async () => (await plain.stats([STREAM]))[0]?.buffered,
    dead: async () => (await plain.deadLetters(STREAM, {}, undefined, 10)).length,
    /** As `Stream.skip`, by way of any process. */
    ask: async (window: string | undefined, sink?: string) => {
      const request = { group: 'default', window: window ?? '', action: 'skip' } as const;
      await plain.updateStream(STREAM, { request: sink === undefined ? request : { ...request, sink } });
    },
    process: (clock?: VirtualClock) =>
      new Process(database, clock ? { clock } : {}).consumer({
        size: 1,
        retry: { base: 1_000, max: 60_000, jitter: 0, attempts: 5 },
        handler: ({ data }) => data[0],
        sinks: [ledger, mail],
      }),
  };
}

async function stop(p: Process): Promise<void> {
  const stopping = p.engine.stop(0);
  await p.clock.advance(10_000);
  await stopping;
}

async function refresh(p: Process): Promise<void> {
  await p.engine.refresh(STREAM);
  await p.engine.settled();
}

describe('a window that skips a sink', () => {
  it.each([new Error('away'), new ResultRefused('never')])('is committed at once: %s', async (error) => {
    const { plain, ledger, mail, buffered, dead, ask, process } = setUp();
    ledger.error = error;
    const p = await process().start();
    await p.append(1, 2);
    await p.advance(10_000);
    const window = p.seen[0]?.id ?? '';
    expect(await plain.findWindow(key, window)).toMatchObject({ blockedSinks: ['Ledger'] });
    await ask(window, 'Ledger');
    ledger.error = undefined;
    await refresh(p);
    expect({ ledger: ledger.taken, mail: mail.taken }).toEqual({ ledger: [2], mail: [1, 2] });
    expect(await buffered()).toBe(0);
    expect(await dead()).toBe(0);
    expect(p.seen.map(({ data }) => data)).toEqual([[1], [2]]);
    expect((await plain.describeStream(STREAM))?.requests).toBeUndefined();
    expect(p.engine.status()[0]).toMatchObject({ activity: 'waiting', skippedSinks: 1, committedWindows: 2 });
    expect(p.logged.filter((line) => line.includes(`window ${window} skips sink Ledger`))).toHaveLength(1);
    await stop(p);
  });

  it('waits for the other sinks, with their backoff', async () => {
    const { plain, ledger, mail, buffered, ask, process } = setUp();
    ledger.error = new Error('away');
    mail.error = new Error('away, too');
    const p = await process().start();
    await p.append(1);
    await p.advance(10_000);
    const window = p.seen[0]?.id ?? '';
    expect(await plain.findWindow(key, window)).toMatchObject({ blockedSinks: ['Ledger', 'Mail'] });
    await ask(window, 'Ledger');
    await refresh(p);
    const { tries } = mail;
    await p.advance(60_000);
    expect(mail.tries - tries).toBeLessThan(5);
    expect(await buffered()).toBe(1);
    mail.error = undefined;
    await p.advance(60_000);
    expect(mail.taken).toEqual([1]);
    expect(await buffered()).toBe(0);
    expect((await plain.describeStream(STREAM))?.requests).toBeUndefined();
    await stop(p);
  });

  it('skips all sinks that fail if none is named', async () => {
    const { ledger, mail, buffered, ask, process } = setUp();
    ledger.error = mail.error = new Error('away');
    const p = await process().start();
    await p.append(1);
    await ask(p.seen[0]?.id);
    await refresh(p);
    expect(await buffered()).toBe(0);
    expect(p.engine.status()[0]?.skippedSinks).toBe(2);
    await stop(p);
  });

  it('tries the sink once more after a restart, and skips it if it fails', async () => {
    const { plain, ledger, mail, buffered, ask, process } = setUp();
    ledger.error = new Error('away');
    const first = await process().start();
    await first.append(1);
    await first.advance(5_000);
    await stop(first);
    const window = first.seen[0]?.id ?? '';
    expect(await plain.findWindow(key, window)).toMatchObject({ blockedSinks: ['Ledger'] });
    await ask(window, 'Ledger');
    const { tries } = ledger;
    const second = await process(new VirtualClock(first.clock.now())).start();
    await second.engine.settled();
    expect(ledger.tries).toBe(tries + 1);
    expect(mail.taken).toEqual([1, 1]);
    expect(await buffered()).toBe(0);
    await stop(second);
  });

  it('says nothing of a sink any more when the next attempt fails', async () => {
    const { database, plain, ledger } = setUp();
    ledger.error = new Error('away');
    let fails = false;
    const handler = () => {
      if (fails) throw new Error('no');
      return 1;
    };
    const choice = { size: 1, handler, sinks: [ledger] };
    const first = await new Process(database).consumer(choice).start();
    await first.append(1);
    await stop(first);
    fails = true;
    const second = await new Process(database, { clock: new VirtualClock(first.clock.now()) }).consumer(choice).start();
    await second.engine.settled();
    const found = await plain.findWindow(key, first.seen[0]?.id ?? '');
    expect(found?.attempt).toBe(2);
    expect(found).not.toHaveProperty('blockedSinks');
    await stop(second);
  });
});
