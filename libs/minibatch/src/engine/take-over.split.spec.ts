import { describe, expect, it } from 'vitest';
import type { SplitState, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { setUp } from './evidence.spec.support.js';
import { LEASE, Process, stop, STREAM, turns } from './process.spec.support.js';

const KEY = { stream: STREAM, group: 'default', partition: 0 };
const START = new VirtualClock().now();
const DIED = 'the process ended while it was handled';
const never = () => new Promise<never>(() => undefined);
const some = () => turns(() => false, 60);

interface Row {
  readonly what: string;
  /** What the window of the messages 0 to 3 looks like when its holder dies. */
  readonly left: Pick<WindowRecord, 'recoveries' | 'split'>;
  /** What the takeover stores. */
  readonly stored: SplitState;
  /** What the third process handles first. */
  readonly first: readonly unknown[] | undefined;
  readonly given: readonly unknown[];
}

const rest = [{ from: 2, to: 4 }];
const rows: Row[] = [
  {
    what: 'a whole window that it takes apart',
    left: { recoveries: 3 },
    stored: { pending: [{ from: 0, to: 2 }, ...rest], alone: [], again: [], last: false },
    // The third process can't tell that no handler had begun, so it halves the first part at once.
    first: [0],
    given: [],
  },
  {
    what: 'a part that it halves',
    left: { recoveries: 1, split: { pending: [{ from: 0, to: 2 }, ...rest], alone: [], again: [], last: false } },
    stored: { pending: [{ from: 0, to: 1 }, { from: 1, to: 2 }, ...rest], alone: [], again: [], last: false },
    first: [0],
    given: [],
  },
  {
    what: 'a part that it halves, of a window whose holder was the first to die',
    left: { recoveries: 0, split: { pending: [{ from: 0, to: 2 }, ...rest], alone: [], again: [], last: false } },
    stored: { pending: [{ from: 0, to: 1 }, { from: 1, to: 2 }, ...rest], alone: [], again: [], last: false },
    first: [0],
    given: [],
  },
  {
    what: 'a message that it leaves for later',
    left: { recoveries: 3, split: { pending: [{ from: 0, to: 1 }, ...rest], alone: [], again: [], last: false } },
    stored: { pending: rest, alone: [], again: [{ from: 0, to: 1 }], last: false },
    first: [2],
    given: [],
  },
  {
    what: 'a message that it gives up, with others behind it',
    left: { recoveries: 3, split: { pending: [], alone: [{ from: 1, to: 3 }], again: [], last: false } },
    stored: { pending: [], alone: [{ from: 2, to: 3 }], again: [], last: false },
    first: [2],
    given: [1],
  },
  {
    what: 'a message that it gives up, the last of its window',
    left: { recoveries: 3, split: { pending: [{ from: 3, to: 4 }], alone: [], again: [], last: true } },
    stored: { pending: [], alone: [], again: [], last: false },
    first: undefined,
    given: [3],
  },
];

describe('a takeover that ends before it has begun a handler', () => {
  it.each(rows)('has stored $what: the next one continues from there', async ({ left, stored, first, given }) => {
    const context = await openWindow(left);
    const { database } = context;
    const second: Process = new Process(database, {
      clock: new VirtualClock(START),
      around: async (call) => {
        const answer = await call.proceed();
        if (call.method === 'reschedule') second.kill();
        return answer;
      },
    });
    second.consumer({ size: 4 });
    await second.engine.start();
    await second.clock.advance(LEASE * 1.5, some);
    expect(second.seen).toEqual([]);
    expect(context.windows()).toEqual([expect.objectContaining({ recoveries: 0, error: DIED, split: stored })]);

    const third = new Process(database, { clock: new VirtualClock(second.clock.now()) });
    third.consumer({ size: 4, ...(first && { handler: never }) });
    await third.engine.start();
    await third.clock.advance(LEASE * 1.5, some);
    expect(third.seen.map(({ data }) => data)).toEqual(first ? [first] : []);
    expect(await context.given()).toEqual(given);
    if (first) third.kill();
    else {
      expect(await context.buffered()).toBe(0);
      await stop(third);
    }
  });

  it('gives up nothing where the message has gone', async () => {
    const split = { pending: [{ from: 3, to: 4 }], alone: [], again: [], last: true };
    const context = await openWindow({ recoveries: 3, split });
    const { database } = context;
    const p = new Process(database, {
      clock: new VirtualClock(START),
      around: async ({ method, proceed }) => {
        const answer = await proceed();
        return method === 'load' ? (answer as StoredMessage[]).filter(({ data }) => data !== 3) : answer;
      },
    }).consumer({ size: 4 });
    await p.engine.start();
    await p.clock.advance(LEASE * 1.5, some);
    expect(p.seen).toEqual([]);
    expect(await context.given()).toEqual([]);
    expect(context.windows()).toEqual([]);
    expect(p.engine.status()[0]).toMatchObject({ vanished: 1, deadLettered: 0 });
    await stop(p);
  });

  it('handles nothing again of a window that was through', async () => {
    const context = await openWindow({ recoveries: 3, split: { pending: [], alone: [], again: [], last: false } });
    const p = new Process(context.database, { clock: new VirtualClock(START) }).consumer({ size: 4 });
    await p.engine.start();
    await p.clock.advance(LEASE * 1.5, some);
    expect(p.seen).toEqual([]);
    expect(context.windows()).toEqual([]);
    expect(await context.buffered()).toBe(0);
    await stop(p);
  });
});

/** Someone claims a window of four messages, and dies. */
async function openWindow(left: Pick<WindowRecord, 'recoveries' | 'split'>) {
  const context = setUp();
  const { plain } = context;
  await plain.ensureStream(STREAM);
  await plain.append([0, 1, 2, 3].map((data) => ({ stream: STREAM, data, created: new Date(START) })));
  await plain.registerGroup(KEY);
  const [state] = await plain.readLeases([KEY]);
  const owner = { id: 'earlier', host: 'elsewhere', bootId: '', pid: 1, startTime: '' };
  const lease = state && (await plain.acquireLease(KEY, owner, state));
  if (!lease) throw new Error('no lease');
  const { messages } = await plain.fetch(KEY, undefined, { messages: 10, bytes: 1_000_000 });
  const window = { seq: 1, id: 'w1', messageIds: messages.map(({ id }) => id), created: new Date(START), attempt: 1 };
  await plain.claim(lease, [{ ...window, ...left }]);
  return context;
}
