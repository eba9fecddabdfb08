import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { answered, isCheckpointError, isDue } from './checkpoints.js';
import type { AppendOutcome, Checkpoint } from './stream-store.interface.js';

const stored: AppendOutcome = { status: 'stored', id: '1' };
const duplicate: AppendOutcome = { status: 'duplicate' };
const failed: AppendOutcome = { status: 'failed', error: new Error('too large') };
const checkpoint = (from: number, to: number, source = 'feed'): Checkpoint => ({
  stream: 's',
  source,
  position: { at: to },
  from,
  to,
});

describe('a position', () => {
  it.each([
    { what: 'its messages are stored', range: [0, 2], outcomes: [stored, stored], due: true },
    { what: 'they are duplicates', range: [0, 2], outcomes: [duplicate, stored], due: true },
    { what: 'those of others failed', range: [1, 2], outcomes: [failed, stored, failed], due: true },
    { what: 'it has none', range: [1, 1], outcomes: [failed, failed], due: true },
    { what: 'its first failed', range: [0, 2], outcomes: [failed, stored], due: false },
    { what: 'its last failed', range: [0, 2], outcomes: [stored, failed], due: false },
    { what: 'nothing is known of one', range: [0, 2], outcomes: [stored], due: false },
  ] as const)('is stored: $due, if $what', ({ range: [from, to], outcomes, due }) => {
    expect(isDue(checkpoint(from, to), outcomes)).toBe(due);
  });

  it('that could not be stored is told, with what became of the messages', () => {
    const outcomes = [stored, duplicate];
    const cause = new Error('disk full');
    expect(answered(outcomes, [])).toBe(outcomes);
    const refused = (...sources: readonly string[]) => {
      try {
        answered(
          outcomes,
          sources.map((source) => ({ checkpoint: checkpoint(0, 1, source), error: cause })),
        );
      } catch (error) {
        if (isCheckpointError(error)) return error;
      }
      throw new Error('it was not refused');
    };
    const one = refused('feed');
    expect(one).toMatchObject({
      code: ErrorCode.CheckpointFailed,
      outcomes,
      cause,
      details: { checkpoints: [{ stream: 's', source: 'feed' }] },
    });
    expect(one.message).toContain("position of source 'feed' on 's': disk full");
    const two = refused('feed', 'other');
    expect(two.message).toContain("position of source 'feed' on 's' (and 1 more): disk full");
    expect(two.failed.map(({ checkpoint: { source } }) => source)).toEqual(['feed', 'other']);
  });

  it('is told by its content: an adapter may have a copy of the package', () => {
    const copy = Object.assign(new Error('not stored'), { code: ErrorCode.CheckpointFailed, outcomes: [] });
    expect(isCheckpointError(copy)).toBe(true);
    expect(isCheckpointError({ code: ErrorCode.CheckpointFailed, outcomes: [] })).toBe(false);
    expect(isCheckpointError(Object.assign(new Error('not stored'), { code: ErrorCode.CheckpointFailed }))).toBe(false);
    expect(isCheckpointError(Object.assign(new Error('other'), { code: 'EIO', outcomes: [] }))).toBe(false);
    expect(isCheckpointError(new Error('other'))).toBe(false);
  });
});
