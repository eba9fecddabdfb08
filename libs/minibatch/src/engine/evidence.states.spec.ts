import { beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { Bisection } from './bisection.js';
import { Evidence } from './evidence.js';
import { HandlerRuns } from './handler-runs.js';
import { type InFlightWindow, inFlightWindow, takenApart, WindowState } from './in-flight-window.js';
import { InFlightWindows } from './in-flight-windows.js';
import type { LeaseTerm } from './lease-term.js';
import { range } from './processes.spec.support.js';

const NOW = new VirtualClock().now();

describe('what is known of windows that fail', () => {
  let clock: VirtualClock;
  let windows: InFlightWindows;
  let evidence: Evidence;
  let changes: number;
  /** Errors that count, and lines of the log. */
  let failures: string[];
  let logged: string[];

  beforeEach(() => set({}));

  function set({ readAhead = 10, readAheadBytes = 100 }: { readAhead?: number; readAheadBytes?: number }): void {
    clock = new VirtualClock();
    windows = new InFlightWindows();
    [changes, failures, logged] = [0, [], []];
    const log = (line: string) => void logged.push(line);
    const term = {
      definition: { label: 'Test.default', retry: { base: 1_000, max: 60_000, jitter: 0, attempts: 5 } },
      counters: {
        failed: (_at: number, error: MinibatchError) => {
          expect(error.code).toBe(ErrorCode.AllFailed);
          failures.push(error.message);
        },
      },
      parts: {
        clock,
        log: { log, warn: log, error: log },
        options: { readAhead },
      },
      readAheadBytes,
      runs: new HandlerRuns(),
    } as unknown as LeaseTerm;
    evidence = new Evidence(term, windows, () => (changes += 1));
  }

  /** A window that is ready to run. */
  function ready(seq: number, sizes: readonly number[] = [1], record: Partial<WindowRecord> = {}): InFlightWindow {
    const messages = sizes.map((bytes, n) => ({ id: `${seq}.${n}`, bytes }) as StoredMessage);
    const open = inFlightWindow(
      { seq, id: `w${seq}`, created: new Date(NOW + seq), ...record } as WindowRecord,
      messages,
    );
    windows.add(open);
    windows.transition(open, WindowState.Ready);
    return open;
  }

  /** It runs, and all of it fails. */
  function fail(open: InFlightWindow): InFlightWindow {
    windows.transition(open, WindowState.Running);
    evidence.begin();
    evidence.setAside(open, evidence.mark);
    return open;
  }

  function probe(open: InFlightWindow, isFailed: boolean): void {
    evidence.probing(open);
    windows.transition(open, WindowState.Running);
    evidence.begin();
    evidence.probeEnded(open, isFailed);
  }

  it('is nothing while nothing has failed', () => {
    ready(1);
    expect(evidence.summary).toBeUndefined();
    expect(evidence.next).toBeUndefined();
    expect([evidence.isInDoubt, evidence.isOutage, evidence.isProbing]).toEqual([false, false, false]);
    evidence.succeeded(ready(2), evidence.begin());
    expect(changes).toBe(0);
    expect(logged).toEqual([]);
  });

  it('names the first window, and since when they wait, the one that is probed included', () => {
    const error = 'no service';
    const [third, first, second] = [
      fail(ready(3, [1, 1], { aside: new Date(NOW + 20) })),
      fail(ready(1, [1, 1, 1], { aside: new Date(NOW + 30), error })),
      fail(ready(2, [1], { aside: new Date(NOW + 10) })),
    ];
    const summary = { windows: 3, messages: 6, since: new Date(NOW + 10), window: 'w1', error };
    expect(evidence.summary).toEqual(summary);
    expect(evidence.next).toBe(third);
    evidence.probing(first);
    windows.transition(first, WindowState.Running);
    expect(evidence.isProbing).toBe(true);
    expect(evidence.summary).toEqual(summary);
    evidence.probeEnded(second, true);
    expect(evidence.isProbing).toBe(true);
    evidence.probeEnded(first, true);
    expect(evidence.isProbing).toBe(false);
    expect(windows.setAside).toEqual([third, second, first]);
  });

  it('has the time and the error of a window that says neither', () => {
    fail(ready(1));
    expect(evidence.summary).toMatchObject({ since: new Date(NOW + 1), error: '' });
  });

  it('doubles the wait between two probes, with windows that were not tried before only at every fourth', async () => {
    const first = fail(ready(1));
    expect(evidence.pause).toBe(1_000);
    await clock.advance(400);
    expect(evidence.pause).toBe(600);
    await clock.advance(1_000);
    expect(evidence.pause).toBe(0);
    const pauses = range(0, 2).map(() => {
      probe(first, true);
      return evidence.pause;
    });
    expect(pauses).toEqual([2_000, 4_000]);
    const fresh = range(2, 7).map((seq) => {
      probe(ready(seq), true);
      return evidence.pause;
    });
    expect(fresh).toEqual([4_000, 4_000, 4_000, 8_000, 8_000]);
    // It has failed as a probe before.
    const again = windows.setAside.find(({ record }) => record.seq === 2)!;
    probe(again, true);
    expect(evidence.pause).toBe(16_000);
    evidence.succeeded(first, evidence.begin());
    probe(again, true);
    expect(evidence.pause).toBe(2_000);
  });

  it('starts with a short wait when it begins anew', () => {
    const first = fail(ready(1));
    probe(first, true);
    evidence.succeeded(ready(2), evidence.begin());
    evidence.release();
    expect(evidence.isInDoubt).toBe(false);
    fail(first);
    expect(evidence.pause).toBe(1_000);
    probe(first, true);
    expect(evidence.pause).toBe(2_000);
  });

  it('is a success that began after the failure, whatever ends later', () => {
    const early = evidence.begin();
    const open = fail(ready(1));
    open.apart = takenApart(Bisection.begin(1));
    evidence.succeeded(ready(2), early);
    evidence.release();
    expect(open.state).toBe(WindowState.SetAside);
    const [first, second] = [evidence.begin(), evidence.begin()];
    evidence.succeeded(ready(3), second);
    evidence.succeeded(ready(4), first);
    expect(evidence.hasSince(first)).toBe(true);
    expect(evidence.hasSince(second)).toBe(false);
    expect(changes).toBe(3);
    evidence.release();
    expect(open).toMatchObject({ state: WindowState.Ready, retry: true });
    expect(open.apart.bisection.proven).toBe(true);
  });

  it('is none from a run that began before the failure, whatever has begun since', () => {
    const early = evidence.begin();
    const open = fail(ready(1));
    evidence.begin();
    evidence.succeeded(ready(2), early);
    evidence.release();
    expect(open.state).toBe(WindowState.SetAside);
  });

  it('is also a run that began when all had failed and nothing was set aside yet', () => {
    const open = ready(1);
    windows.transition(open, WindowState.Running);
    const failed = evidence.begin();
    const run = evidence.begin();
    evidence.setAside(open, failed);
    evidence.succeeded(ready(2), run);
    evidence.release();
    expect(open.state).toBe(WindowState.Ready);
  });

  it('is none from before a probe ended, and runs that failed only as probes start afresh', () => {
    const whole = fail(ready(1));
    const open = ready(2);
    evidence.probing(open);
    expect(open.probes).toBe(1);
    windows.transition(open, WindowState.Running);
    const run = evidence.begin();
    evidence.probeEnded(open, true);
    expect(open).toMatchObject({ failedAt: run, failedWhole: false, failedAsProbe: true });
    evidence.succeeded(ready(3), run);
    evidence.release();
    // It had failed before that run began.
    expect(whole).toMatchObject({ state: WindowState.Ready, retry: true });
    expect(open.state).toBe(WindowState.SetAside);
    evidence.succeeded(ready(4), evidence.begin());
    evidence.release();
    expect(open).toMatchObject({ state: WindowState.Ready, retry: false });
  });

  it('remembers of a window that is probed while set aside that all of it had failed', () => {
    const open = fail(ready(1));
    probe(open, true);
    expect(open).toMatchObject({ failedWhole: true, probes: 1, failedAt: evidence.mark });
    evidence.succeeded(ready(2), evidence.begin());
    evidence.release();
    probe(open, true);
    expect(open).toMatchObject({ failedWhole: false, probes: 2 });
  });

  it('is over for a probe that gets through', () => {
    const open = fail(ready(1));
    const { pause } = evidence;
    evidence.probing(open);
    windows.transition(open, WindowState.Running);
    // No other one is set aside.
    expect(evidence.isInDoubt).toBe(true);
    evidence.begin();
    evidence.probeEnded(open, false);
    expect([evidence.isProbing, evidence.isInDoubt, evidence.pause]).toEqual([false, false, pause]);
    expect(open.failedAsProbe).toBe(false);
    expect(failures).toEqual([]);
  });

  it('calls it an outage once more than one window fails, and says so once', () => {
    const first = fail(ready(1, [1], { error: 'no' }));
    expect(evidence.isOutage).toBe(false);
    probe(first, true);
    expect(evidence.isOutage).toBe(false);
    expect(failures).toEqual([expect.stringContaining('window w1 failed, and there is no other window')]);
    expect(logged).toEqual([]);
    probe(ready(2, [1], { error: 'nor this' }), true);
    expect(evidence.isOutage).toBe(true);
    expect(failures[1]).toContain('2 windows failed, the last with: nor this.');
    expect(logged).toEqual([failures[1]]);
    probe(first, true);
    expect(failures).toHaveLength(3);
    expect(logged).toHaveLength(1);
    evidence.succeeded(ready(3), evidence.begin());
    expect(evidence.isOutage).toBe(false);
    expect(logged.slice(1)).toEqual(['Test.default: a window succeeded again; retrying 2 windows that failed before']);
    evidence.succeeded(ready(4), evidence.begin());
    expect(logged).toHaveLength(2);
    // And if it begins again, it is said again.
    probe(ready(5), true);
    expect(logged).toHaveLength(3);
  });

  it('is an outage, too, when a window uses its attempts up while another one is set aside', () => {
    fail(ready(1));
    fail(ready(2));
    expect(evidence.isOutage).toBe(true);
  });

  it('forgets that others failed when the last of them was given up', () => {
    const [first, second] = [fail(ready(1)), fail(ready(2))];
    const give = (open: InFlightWindow) => {
      windows.transition(open, WindowState.Running);
      evidence.gaveUp();
    };
    give(first);
    expect(evidence.isOutage).toBe(true);
    give(second);
    fail(ready(3));
    expect(evidence.isOutage).toBe(false);
  });

  it('blocks a window until it, or what it needs, works again', () => {
    const [one, two] = [ready(1), ready(2)];
    evidence.block(one);
    evidence.block(two);
    evidence.unblock(one);
    expect(windows.hasBlocked).toBe(true);
    evidence.succeeded(two, evidence.begin());
    expect(windows.hasBlocked).toBe(false);
  });

  it.each([
    { what: 'three windows of any size', sizes: range(0, 3).map(() => range(0, 99).map(() => 99)), room: true },
    {
      what: 'less than twice the messages read ahead',
      sizes: [5, 5, 5, 4].map((n) => range(0, n).map(() => 1)),
      room: true,
    },
    { what: 'twice the messages read ahead', sizes: [5, 5, 5, 5].map((n) => range(0, n).map(() => 1)), room: false },
    { what: 'less than twice the bytes read ahead', sizes: [[50], [50], [50], [49]], room: true },
    { what: 'twice the bytes read ahead', sizes: [[50], [50], [50], [50]], room: false },
  ])('has room for more beside $what: $room', ({ sizes, room }) => {
    for (const [n, some] of sizes.entries()) fail(ready(n + 1, some));
    expect(evidence.hasRoom).toBe(room);
  });

  it('has room for a thousand windows at the most', () => {
    set({ readAhead: 10_000, readAheadBytes: 10_000 });
    for (const seq of range(1, 1_000)) fail(ready(seq));
    expect(evidence.hasRoom).toBe(true);
    fail(ready(1_000));
    expect(evidence.hasRoom).toBe(false);
  });
});
