import { describe, expect, it } from 'vitest';
import type { ConsumerProgress, WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type EmitterContext, type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import { LEASE, Process, stop, STREAM, turns } from './process.spec.support.js';
import { never, useTakeOver } from './take-over.spec.support.js';

/** One message a window, without bounds; remembers what it was told. */
class Told extends WindowEmitter {
  lastEnd: Date | undefined;
  override init({ lastEnd }: EmitterContext): void {
    this.lastEnd = lastEnd;
  }
  windowReady(view: MessageView): boolean {
    return view.length > 0;
  }
  query(view: MessageView) {
    return view.take(1);
  }
}

describe('a process that takes over continues', () => {
  const test = useTakeOver();
  const { append: stored, next } = test;

  describe('from what an earlier holder has left in the store', () => {
    const KEY = { stream: STREAM, group: 'default', partition: 0 };
    const NOW = new VirtualClock().now();
    type Left = Partial<
      Pick<WindowRecord, 'seq' | 'messageIds' | 'aside' | 'dropped' | 'starts' | 'end' | 'late' | 'nextTry'>
    >;

    /** A holder that claims a window of one message for each of these, and dies. */
    async function leave(windows: readonly Left[], progress: Partial<ConsumerProgress> = {}): Promise<void> {
      await stored(...windows.map((_, index) => index));
      await test.plain.registerGroup(KEY);
      const [state] = await test.plain.readLeases([KEY]);
      const owner = { id: 'earlier', host: 'elsewhere', bootId: '', pid: 1, startTime: '' };
      const lease = state && (await test.plain.acquireLease(KEY, owner, state));
      if (!lease) throw new Error('no lease');
      const { messages } = await test.plain.fetch(KEY, undefined, { messages: 10, bytes: 1_000_000 });
      await test.plain.claim(
        lease,
        windows.map((left, index) => ({
          seq: index + 1,
          id: `w${index + 1}`,
          messageIds: [messages[index]?.id ?? ''],
          created: new Date(NOW),
          attempt: 1,
          recoveries: 0,
          ...left,
        })),
      );
      await test.plain.commit(lease, { finished: [], progress: { lastSeq: 0, windows: 0, messages: 0, ...progress } });
    }

    it('counts no death for windows behind one that was set aside: the start of each was stored', async () => {
      await leave([{ aside: new Date(NOW) }, {}]);
      const p = await next(NOW, { size: 1, workers: 2, handler: never }, LEASE * 3);
      expect(p.seen.map(({ id }) => id)).toEqual(['w2']);
      expect(test.rescheduled).toEqual([{ seq: 2, attempt: 1, recoveries: 1 }]);
      p.kill();
    });

    it('counts no death for a window without a handler', async () => {
      await leave([{ dropped: true }, {}]);
      const p = await next(NOW, { size: 1, workers: 2 }, LEASE * 3);
      expect(test.rescheduled.filter(({ seq }) => seq === 1)).toEqual([]);
      expect(p.seen.map(({ id }) => id)).toEqual(['w2']);
      await stop(p);
    });

    it.each([
      { what: 'the progress', progress: [1, 2], window: [1], begun: 0 },
      { what: 'a window', progress: [1], window: [1, 2], begun: 0 },
      { what: 'a window that is later', progress: [], window: [1], begun: 2 },
    ])('counts for its rate limit what $what has stored last', async ({ progress, window, begun }) => {
      const start = (cost: number) => ({ at: new Date(NOW), cost });
      await leave([{ starts: window.map(start) }, {}, {}], { starts: progress.map(start) });
      const limit = { unit: 'windows', most: 3, per: 600_000 } as const;
      const p = await next(NOW, { size: 1, rateLimit: limit }, LEASE * 3);
      expect(p.seen).toHaveLength(begun);
      const stopping = p.engine.stop(0);
      await p.clock.advance(10_000);
      await stopping;
    });

    it.each([
      { what: 'a window', later: 'window' },
      { what: 'the progress', later: 'progress' },
    ])('counts for its rate limit what $what has stored later, even if it is less', async ({ later }) => {
      const start = (ago: number) => ({ at: new Date(NOW - ago), cost: 1 });
      // Of the earlier list a start has expired in the later one.
      const [many, few] = [[start(200_000), start(100_000)], [start(50_000)]];
      await leave([{ starts: later === 'window' ? few : many }, {}, {}], {
        starts: later === 'window' ? many : few,
      });
      const limit = { unit: 'windows', most: 3, per: 600_000 } as const;
      const p = await next(NOW, { size: 1, rateLimit: limit }, LEASE * 3);
      expect(p.seen).toHaveLength(2);
      await stop(p);
    });

    it('counts the death for a window whose wait for its next attempt was over', async () => {
      await leave([{ nextTry: new Date(NOW) }]);
      const p = await next(NOW, { size: 1, handler: never }, LEASE * 3);
      expect(test.rescheduled).toContainEqual({ seq: 1, attempt: 1, recoveries: 1 });
      p.kill();
    });

    it('handles an empty window, for which it loads nothing', async () => {
      await leave([{ messageIds: [], end: new Date(NOW) }]);
      const calls: string[] = [];
      const p = new Process(test.database, {
        clock: new VirtualClock(NOW),
        around: (call) => {
          calls.push(call.method);
          return call.proceed();
        },
      }).consumer({ size: 2 });
      await p.engine.start();
      await p.clock.advance(LEASE * 3, () => turns(() => false, 60));
      expect(p.seen).toMatchObject([{ id: 'w1', data: [] }]);
      expect(calls).toContain('recover');
      expect(calls).not.toContain('load');
      expect(p.logged).toContainEqual('Test.default: took over 1 open window of an earlier process');
      await stop(p);
    });

    const HOUR = 3_600_000;
    it.each([
      { what: 'the end of a later window, though it is earlier: the clock was set back', seq: 4, after: 1 },
      { what: 'the end of what was committed, which a window before it does not move back', seq: 2, after: 2 },
      { what: 'the end of what was committed, whatever a late window is of', seq: 4, late: true, after: 2 },
    ])('tells the strategy $what', async ({ seq, late, after }) => {
      const end = (hours: number) => new Date(NOW - 5 * HOUR + hours * HOUR);
      await leave([{ seq, end: end(1), ...(late && { late }) }], { lastSeq: 3, lastEnd: end(2) });
      const emitter = new Told();
      const p = await next(NOW, { emitter, handler: never }, LEASE * 3);
      expect(emitter.lastEnd).toEqual(end(after));
      p.kill();
    });
  });

  describe('a strategy that counts from the first start', () => {
    const KEY = { stream: STREAM, group: 'default', partition: 0 };

    class FromStart extends Told {
      override readonly countsFromStart = true;
    }

    const stored = () => test.database.streams.get(STREAM)?.consumer(KEY);
    const storedEnd = () => stored()?.progress.lastEnd;

    it('is told of it at once, and it stays stored with the commits that follow', async () => {
      const emitter = new FromStart();
      const p = new Process(test.database).consumer({ emitter });
      const started = new Date(p.clock.now());
      await p.engine.start();
      await p.engine.settled();
      expect(emitter.lastEnd).toEqual(started);
      expect(stored()).toMatchObject({ finished: [], progress: { lastSeq: 0, lastEnd: started } });
      await p.append(1);
      await p.advance(1_000);
      expect(p.values).toEqual([1]);
      expect(p.engine.status()[0]?.committedWindows).toBe(1);
      expect(storedEnd()).toEqual(started);
      await stop(p);
    });

    it.each([
      { what: 'one interval ahead is kept', ahead: 10_000, kept: true },
      {
        what: 'further ahead is replaced: a clock that was wrong has stored it',
        ahead: 10_001,
        kept: false,
      },
    ])('an end that lies $what', async ({ ahead, kept }) => {
      const first = new Process(test.database).consumer({ emitter: new FromStart(), interval: 10_000 });
      await first.start();
      await stop(first);
      const end = storedEnd();
      const now = new Date((end?.getTime() ?? 0) - ahead);
      const clock = new VirtualClock(now.getTime());
      const emitter = new FromStart();
      const p = new Process(test.database, { clock }).consumer({ emitter, interval: 10_000 });
      await p.start();
      expect(emitter.lastEnd).toEqual(kept ? end : now);
      expect(storedEnd()).toEqual(kept ? end : now);
      await stop(p);
    });
  });
});
