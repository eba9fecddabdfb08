import { describe, expect, it } from 'vitest';
import { GroupCommits } from './group-commits.js';

describe('GroupCommits', () => {
  it('knows which groups have committed a message', () => {
    const commits = new GroupCommits();
    commits.add(['1', '2'], 'a');
    commits.add(['2', '3'], 'b');
    commits.add(['2'], 'b');
    expect(commits.covers('2', ['a', 'b'])).toBe(true);
    expect(commits.covers('2', ['a'])).toBe(true);
    expect(commits.covers('1', ['a', 'b'])).toBe(false);
    expect(commits.covers('4', ['a'])).toBe(false);
    expect(commits.covers('1', [])).toBe(false);
    commits.left(['2', '4']);
    expect(commits.covers('2', ['a'])).toBe(false);
  });

  it('forgets the oldest', () => {
    const commits = new GroupCommits(3);
    commits.add(['1', '2'], 'a');
    commits.add(['1', '3', '4', '5'], 'b');
    expect(['1', '2', '3', '4', '5'].map((id) => commits.covers(id, ['b']))).toEqual([false, false, true, true, true]);
  });

  it('tells what has left, also after the wait for it is over', async () => {
    const commits = new GroupCommits();
    const hold = commits.hold(['1', '2']);
    await hold.untilLeft(60_000, AbortSignal.abort());
    expect(commits.isEmpty).toBe(false);
    commits.left(['1']);
    expect(['1', '2'].map((id) => hold.has(id))).toEqual([false, true]);
    const waiting = hold.untilLeft(60_000, new AbortController().signal);
    commits.left(['2', '3']);
    await waiting;
    expect(hold.isEmpty).toBe(true);
    hold.release();
    expect(commits.isEmpty).toBe(true);
  });
});
