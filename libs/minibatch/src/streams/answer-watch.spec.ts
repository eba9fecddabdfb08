import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { AnswerWatch } from './answer-watch.js';

const PATIENCE = 10_000;
const never = () => new Promise<void>(() => undefined);
const away = () => Promise.reject(new MinibatchError(ErrorCode.StoreUnavailable, 'connection refused'));

function setUp(look: () => Promise<unknown>, patience: number | undefined = PATIENCE) {
  const clock = new VirtualClock(0);
  const silences: number[] = [];
  let asked = 0;
  const watch = new AnswerWatch({
    clock,
    patience: () => patience,
    look: () => {
      asked += 1;
      return look();
    },
    silent: () => silences.push(clock.monotonic() - began),
  });
  const began = clock.monotonic();
  return { clock, watch, silences, asked: () => asked };
}

describe('AnswerWatch', () => {
  it.each([
    ['does not answer a question either', never],
    ['can no longer be reached', away],
  ])('gives up a server that %s, a little after its patience', async (_what, look) => {
    const { clock, watch, silences } = setUp(look);
    watch.begin();
    await clock.advance(600_000);
    expect(silences).toEqual([PATIENCE * 1.1]);
  });

  it('waits without end for a server that is slow', async () => {
    const { clock, watch, silences, asked } = setUp(async () => undefined);
    watch.begin();
    await clock.advance(600_000);
    expect(silences).toEqual([]);
    expect(asked()).toBe(120);
    watch.end();
  });

  it('waits for one that refuses the question: it is there', async () => {
    const { clock, watch, silences } = setUp(() =>
      Promise.reject(new MinibatchError(ErrorCode.StoreDenied, 'no right')),
    );
    watch.begin();
    await clock.advance(600_000);
    expect(silences).toEqual([]);
    watch.end();
  });

  it('asks nothing about a write that is answered in time, and ignores what was asked about an earlier one', async () => {
    const answers: (() => void)[] = [];
    const { clock, watch, silences, asked } = setUp(() => new Promise<void>((resolve) => answers.push(resolve)));
    watch.begin();
    await clock.advance(PATIENCE / 2 - 1);
    watch.end();
    expect(asked()).toBe(0);
    watch.begin();
    await clock.advance(PATIENCE / 2);
    watch.end();
    watch.begin();
    answers[0]?.();
    await clock.advance(PATIENCE * 1.1);
    expect(silences).toHaveLength(1);
    expect(asked()).toBe(2);
  });

  it('gives a store with little patience a second more', async () => {
    const { clock, watch, silences } = setUp(never, 100);
    watch.begin();
    await clock.advance(600_000);
    expect(silences).toEqual([1_100]);
  });

  it('does nothing for a store without a server', async () => {
    const clock = new VirtualClock(0);
    const watch = new AnswerWatch({
      clock,
      patience: () => undefined,
      look: never,
      silent: () => expect.unreachable(),
    });
    watch.begin();
    await clock.advance(600_000);
    watch.end();
  });
});
