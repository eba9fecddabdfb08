import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import { wrapStore } from '../testing/wrapped-store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { StreamHub } from './stream-hub.js';

describe.each(STORES)('a stream that nobody consumes, on %s', (_, open) => {
  let opened: OpenedStore;
  let clock: VirtualClock;
  let hub: StreamHub;
  let warnings: string[];
  let lists: (readonly string[] | undefined)[];
  /** Resolves when the streams that wait were looked at. */
  let looked: Promise<unknown>;

  beforeEach(async () => {
    opened = await open();
    clock = new VirtualClock();
    warnings = [];
    lists = [];
    looked = Promise.resolve();
    const store = wrapStore(opened.store, ({ method, args, proceed }) => {
      const answer = proceed();
      if (method !== 'listStreams') return answer;
      lists.push(args[0] as readonly string[]);
      looked = answer;
      return answer;
    });
    const warn = (line: string) => {
      // A store may have something to say, too.
      if (line.includes('is appended to')) warnings.push(line);
    };
    const log = { log() {}, warn, error() {} };
    hub = new StreamHub({ store, clock, log, retry: { base: 1, max: 1, jitter: 0 } });
    await hub.open();
  });
  afterEach(async () => {
    await hub.close(1000);
    await opened.dispose();
  });

  async function advance(ms: number): Promise<void> {
    await clock.advance(ms);
    await looked;
    await clock.advance(0);
  }

  it('is named once, ten seconds after the first append', async () => {
    await opened.store.registerGroup({ stream: 'flights', group: 'default' });
    await hub.stream('flights').append(1);
    await hub.stream('flihgts').append(1);
    await advance(9_000);
    expect([lists, warnings]).toEqual([[], []]);
    await advance(1_000);
    const warning =
      "'flihgts' is appended to and has no consumer, here or in another process, so its messages wait. Is the name the one that " +
      '@Streaming or consume() has?';
    expect([lists, warnings]).toEqual([[['flihgts']], [warning]]);
    await hub.stream('flihgts').append(2);
    await advance(60_000);
    expect([lists.length, warnings.length]).toEqual([1, 1]);
  });

  it('is not named if it has a consumer by then, or is gone', async () => {
    await hub.stream('flights').append(1);
    await hub.stream('gone').append(1);
    await opened.store.registerGroup({ stream: 'flights', group: 'default' });
    await hub.stream('gone').drop();
    await advance(10_000);
    expect([lists.length, warnings]).toEqual([1, []]);
  });

  it('is not looked at once the process stops', async () => {
    await hub.stream('flihgts').append(1);
    await hub.close(1000);
    await advance(10_000);
    expect([lists, warnings]).toEqual([[], []]);
  });
});
