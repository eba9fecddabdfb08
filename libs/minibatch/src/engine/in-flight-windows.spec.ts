import { describe, expect, it } from 'vitest';
import type { StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { type InFlightWindow, inFlightWindow, WindowState } from './in-flight-window.js';
import { InFlightWindows } from './in-flight-windows.js';

const message = (bytes: number) => ({ id: 'm', bytes }) as StoredMessage;

function window(seq: number, bytes: readonly number[] = [10], suspect = false): InFlightWindow {
  return inFlightWindow({ seq, id: `w${seq}` } as WindowRecord, bytes.map(message), suspect);
}

function ready(windows: InFlightWindows, ...some: readonly InFlightWindow[]): void {
  for (const open of some) {
    windows.add(open);
    windows.transition(open, WindowState.Ready);
  }
}

describe('windows in flight', () => {
  it('are counted in the state in which they are, from the claim until they have left', () => {
    const windows = new InFlightWindows();
    const [one, two] = [window(1, [10, 20]), window(2)];
    windows.add(one);
    expect(windows.in(WindowState.Claiming)).toEqual({ windows: 1, messages: 2, bytes: 30 });
    expect(windows.size).toBe(0);
    windows.transition(one, WindowState.Ready);
    ready(windows, two);
    expect(windows.size).toBe(2);
    expect(windows.readAhead).toEqual({ messages: 3, bytes: 40 });
    windows.transition(one, WindowState.Running);
    expect(windows.readAhead).toEqual({ messages: 1, bytes: 10 });
    windows.transition(one, WindowState.Finished);
    expect(windows.isQuiet).toBe(false);
    expect(windows.readAhead).toEqual({ messages: 3, bytes: 40 });
    const commit = windows.takeFinished(1);
    expect(commit).toEqual([one]);
    // Their messages count no more, their bytes do as long as they are held.
    expect(windows.readAhead).toEqual({ messages: 1, bytes: 40 });
    expect(windows.in(WindowState.Committing)).toEqual({ windows: 1, messages: 2, bytes: 30 });
    windows.transition(one, WindowState.Leaving);
    expect([windows.inCommits, windows.commitCount, windows.committedSeqs()]).toEqual([1, 1, [1]]);
    windows.remove(commit);
    expect([windows.size, windows.inCommits, windows.commitCount, windows.isQuiet]).toEqual([1, 0, 0, true]);
    expect(windows.readAhead).toEqual({ messages: 1, bytes: 10 });
  });

  it.each([
    [[], WindowState.Running],
    [[], WindowState.Committing],
    [[WindowState.Ready], WindowState.Finished],
    [[WindowState.Ready, WindowState.Running], WindowState.Ready],
    [[WindowState.Ready, WindowState.Running, WindowState.Abandoned], WindowState.Running],
    [[WindowState.Finished], WindowState.Ready],
  ])('refuse a step that leaves out another: %j, then %s', (before, to) => {
    const windows = new InFlightWindows();
    const open = window(1);
    windows.add(open);
    for (const state of before) windows.transition(open, state);
    expect(() => windows.transition(open, to)).toThrow(`can't become ${to}`);
    expect(open.state).toBe(before.at(-1) ?? WindowState.Claiming);
  });

  it('are ready by number, those that run again before the others', () => {
    const windows = new InFlightWindows();
    const [one, two, three] = [window(1), window(2), window(3)];
    ready(windows, one, two, three);
    for (const open of [two, one]) {
      windows.transition(open, WindowState.Running);
      windows.transition(open, WindowState.SetAside);
    }
    expect(windows.setAside).toEqual([two, one]);
    windows.transition(one, WindowState.Ready);
    expect([windows.nextRetry, windows.nextFresh]).toEqual([undefined, one]);
    two.retry = true;
    windows.transition(two, WindowState.Ready);
    expect([windows.nextRetry, windows.nextFresh]).toEqual([two, one]);
    one.failedAsProbe = true;
    expect(windows.nextUntried).toBe(three);
    expect(windows.findRunnable('w2')).toBe(two);
    windows.transition(two, WindowState.Running);
    expect(windows.nextRetry).toBeUndefined();
  });

  it('keep a suspect alone until it has left or is set aside', () => {
    const windows = new InFlightWindows();
    const [suspect, other] = [window(1, [10], true), window(2)];
    ready(windows, suspect, other);
    windows.isolate(other);
    expect(windows.hasIsolated).toBe(false);
    windows.isolate(suspect);
    windows.isolate(suspect);
    expect(windows.hasIsolated).toBe(true);
    windows.transition(suspect, WindowState.Running);
    windows.transition(suspect, WindowState.SetAside);
    expect(windows.hasIsolated).toBe(false);
    windows.isolate(suspect);
    windows.transition(suspect, WindowState.Running);
    windows.transition(suspect, WindowState.Finished);
    windows.remove(windows.takeFinished(10));
    expect(windows.hasIsolated).toBe(false);
  });

  it('are committed up to as many messages as are asked for, and at least one window', () => {
    const windows = new InFlightWindows();
    const all = [window(1, [1, 1, 1]), window(2, [1, 1]), window(3, [1])];
    for (const open of all) {
      windows.add(open);
      windows.transition(open, WindowState.Finished);
    }
    expect(windows.takeFinished(2)).toEqual([all[0]]);
    expect(windows.takeFinished(2)).toEqual([all[1]]);
    expect(windows.isFinishing('w2')).toBe(true);
    expect(windows.isFinishing('w3')).toBe(true);
    expect(windows.takeFinished(2)).toEqual([all[2]]);
    expect(windows.committedSeqs()).toEqual([1, 2, 3]);
    expect(windows.takeFinished(2)).toEqual([]);
  });

  describe('that share records of the store', () => {
    /** One message each; `sizes`: windows of each record. Those in `finished` are, in this order. */
    const finished = (sizes: readonly number[], seqs: readonly number[]) => {
      const windows = new InFlightWindows();
      const all = sizes.flatMap((size) => {
        const claimRecord = { unfinished: size };
        return Array.from({ length: size }, () => claimRecord);
      });
      const opened = all.map((claimRecord, index) => Object.assign(window(index + 1), { claimRecord }));
      for (const open of opened) windows.add(open);
      for (const seq of seqs) windows.transition(opened[seq - 1]!, WindowState.Finished);
      return windows;
    };
    const taken = (windows: InFlightWindows, messages: number, mayLeaveRest: boolean) =>
      windows.takeFinished(messages, mayLeaveRest).map(({ record }) => record.seq);

    it.each([
      { what: 'end with a whole record', sizes: [3, 3], seqs: [1, 2, 3, 4], commits: [[1, 2, 3], [4]] },
      { what: 'end with the last whole one', sizes: [2, 2, 2], seqs: [1, 2, 3, 4, 5], commits: [[1, 2, 3, 4], [5]] },
      { what: 'take all, rather than less than three quarters', sizes: [2, 3], seqs: [1, 2, 3], commits: [[1, 2, 3]] },
      { what: 'take all if no record is whole', sizes: [4], seqs: [1, 2, 3], commits: [[1, 2, 3]] },
      { what: 'take all of records of their own', sizes: [1, 1, 1], seqs: [1, 2, 3], commits: [[1, 2, 3]] },
      { what: 'end where the last of a record finished', sizes: [3, 2], seqs: [2, 1, 3, 5], commits: [[2, 1, 3], [5]] },
      { what: 'end with no record that lacks one', sizes: [3, 2], seqs: [1, 3, 4], commits: [[1, 3, 4]] },
    ])('$what: $commits', ({ sizes, seqs, commits }) => {
      const windows = finished(sizes, seqs);
      for (const commit of commits) expect(taken(windows, 10, true)).toEqual(commit);
      expect(taken(windows, 10, true)).toEqual([]);
      expect(taken(finished(sizes, seqs), 10, false)).toEqual(seqs);
    });

    it('are committed up to as many messages as are asked for all the same', () => {
      const windows = finished([3, 5], [1, 2, 3, 4, 5, 6, 7, 8]);
      expect(taken(windows, 4, true)).toEqual([1, 2, 3]);
      expect(taken(windows, 4, true)).toEqual([4, 5, 6, 7]);
      expect(taken(windows, 4, true)).toEqual([8]);
    });
  });
});
