import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { CheckpointError } from '../storage/checkpoints.js';
import type { AppendOutcome, NewMessage } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { DEFAULT_PENDING } from './pending-limit.js';
import type { SourcePosition } from './append-entries.js';
import { AppendQueue, GROUP_BYTES, GROUP_MESSAGES } from './append-queue.js';
import { FakeStore, type PendingWrite, turn } from './fake-store.spec.support.js';

const sized = (data: unknown, { stream = 's', bytes = 1 } = {}): NewMessage => ({
  stream,
  data,
  bytes,
  created: new Date(0),
});
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

function setUp({ auto = false } = {}) {
  const store = new FakeStore();
  store.auto = auto;
  const refused = new Map<string, Error>();
  const appended: string[] = [];
  const all = new AppendQueue({
    store: store.port,
    clock: new VirtualClock(0),
    limits: DEFAULT_PENDING,
    place: () => undefined,
    prepare: async (stream) => {
      const error = refused.get(stream);
      if (error) throw error;
    },
    look: async () => undefined,
    appended: (stream) => appended.push(stream),
  });
  const queue = {
    add: (messages: readonly NewMessage[], position?: SourcePosition, stream = messages[0]?.stream ?? 's') =>
      all.add(stream, messages, position),
    answered: () => all.answered(),
    abandon: () => all.abandon(),
  };
  return { store, queue, refused, appended };
}

describe('AppendQueue', () => {
  it('writes a burst of one turn at once', async () => {
    const { store, queue } = setUp({ auto: true });
    await Promise.all(range(0, 50).map((data) => queue.add([sized(data)])));
    expect(store.written).toEqual([range(0, 50)]);
  });

  it('gathers what comes while a write is in flight, and keeps the order', async () => {
    const { store, queue } = setUp();
    const answers = [queue.add([sized(0)])];
    await turn();
    for (const data of [1, 2, 3]) {
      answers.push(queue.add([sized(data)]));
      await turn();
    }
    expect(store.written).toEqual([[0]]);
    store.writes[0]?.answer();
    await turn();
    expect(store.written).toEqual([[0], [1, 2, 3]]);
    store.writes[1]?.answer();
    expect((await Promise.all(answers)).flat().map((outcome) => 'id' in outcome && outcome.id)).toEqual([
      '1',
      '2',
      '3',
      '4',
    ]);
  });

  it('answers each call after its own write, not before and not later', async () => {
    const { store, queue } = setUp();
    const answered: number[] = [];
    const add = (data: number) => queue.add([sized(data)]).then(() => answered.push(data));
    const first = add(1);
    await turn();
    const second = add(2);
    await turn();
    expect(answered).toEqual([]);
    store.writes[0]?.answer();
    await first;
    await turn();
    expect(answered).toEqual([1]);
    store.writes[1]?.answer();
    await second;
    expect(answered).toEqual([1, 2]);
  });

  it('tells each call of its own messages only', async () => {
    const { store, queue } = setUp();
    const bad = new AppendError(ErrorCode.MessageTooLarge, 'too large', 'no');
    const answers = [queue.add([sized(1)]), queue.add([sized(2)]), queue.add([sized(3), sized(4)])];
    await turn();
    const outcomes: AppendOutcome[] = [
      { status: 'stored', id: 'a' },
      { status: 'failed', error: bad },
      { status: 'duplicate' },
      { status: 'stored', id: 'd' },
    ];
    store.writes[0]?.answer(outcomes);
    expect(await Promise.all(answers)).toEqual([[outcomes[0]], [outcomes[1]], [outcomes[2], outcomes[3]]]);
  });

  it('fails all calls of a write that failed, says it is unknown, and continues', async () => {
    const { store, queue } = setUp();
    const answers = [queue.add([sized(1)]), queue.add([sized(2)])];
    await turn();
    const later = queue.add([sized(3)]);
    store.writes[0]?.fail(new MinibatchError(ErrorCode.StoreUnavailable, 'gone'));
    for (const [outcome] of await Promise.all(answers)) {
      expect(outcome).toMatchObject({
        status: 'failed',
        error: { code: ErrorCode.StoreUnavailable, stored: 'unknown' },
      });
    }
    await turn();
    store.writes[1]?.answer();
    expect(await later).toMatchObject([{ status: 'stored' }]);
  });

  it('fails only the calls on a stream that takes nothing', async () => {
    const { store, queue, refused, appended } = setUp({ auto: true });
    refused.set('closed', new AppendError(ErrorCode.StreamClosed, 'closed', 'no'));
    refused.set('down', new MinibatchError(ErrorCode.StoreUnavailable, 'down'));
    const [a, b, c, d] = await Promise.all([
      queue.add([sized(1, { stream: 'open' })]),
      queue.add([sized(2, { stream: 'closed' })]),
      queue.add([sized(3, { stream: 'down' })]),
      queue.add([sized(4, { stream: 'open' })]),
    ]);
    expect(b).toMatchObject([{ status: 'failed', error: { code: ErrorCode.StreamClosed, stored: 'no' } }]);
    expect(c).toMatchObject([{ status: 'failed', error: { code: ErrorCode.StoreUnavailable, stored: 'no' } }]);
    expect([a, d]).toMatchObject([[{ status: 'stored' }], [{ status: 'stored' }]]);
    expect(store.written).toEqual([[1, 4]]);
    expect(appended).toEqual(['open']);
  });

  it('bounds a write by count', async () => {
    const { store, queue } = setUp({ auto: true });
    await Promise.all([
      queue.add(range(0, GROUP_MESSAGES - 1).map((data) => sized(data))),
      queue.add([sized('a'), sized('b')]),
      queue.add(range(0, 2 * GROUP_MESSAGES + 1).map((data) => sized(data))),
    ]);
    expect(store.writes.map(({ messages }) => messages.length)).toEqual([
      GROUP_MESSAGES - 1,
      2,
      GROUP_MESSAGES,
      GROUP_MESSAGES,
      1,
    ]);
  });

  it('bounds a write by bytes, but a single message is written whatever its size', async () => {
    const { store, queue } = setUp({ auto: true });
    const half = GROUP_BYTES / 2;
    await Promise.all([
      queue.add([sized(1, { bytes: half })]),
      queue.add([sized(2, { bytes: half })]),
      queue.add([sized(3, { bytes: 1 })]),
      queue.add([sized(4, { bytes: 2 * GROUP_BYTES }), sized(5)]),
    ]);
    expect(store.written).toEqual([[1, 2], [3], [4], [5]]);
  });

  describe('positions', () => {
    const at = (position: unknown, source = 'file'): SourcePosition => ({ source, position });

    it('of several calls go with one write, each with its own stream and messages', async () => {
      const { store, queue } = setUp({ auto: true });
      await Promise.all([
        queue.add([sized(1)]),
        queue.add([sized(2, { stream: 'a' }), sized(3, { stream: 'a' })], at(7)),
        queue.add([sized(4, { stream: 'b' })], at(8)),
        queue.add([sized(5)]),
        queue.add([], at(9), 'c'),
      ]);
      expect(store.written).toEqual([[1, 2, 3, 4, 5]]);
      expect(store.writes.map(({ options }) => options)).toEqual([
        {
          checkpoints: [
            { stream: 'a', source: 'file', position: 7, from: 1, to: 3 },
            { stream: 'b', source: 'file', position: 8, from: 3, to: 4 },
            { stream: 'c', source: 'file', position: 9, from: 5, to: 5 },
          ],
        },
      ]);
    });

    it('of a call of several writes goes with the last of them, and not if one failed', async () => {
      const { store, queue } = setUp();
      const many = range(0, 2 * GROUP_MESSAGES + 1).map((data) => sized(data));
      const good = queue.add(many, at(1));
      for (const write of [0, 1, 2]) {
        await turn();
        store.writes[write]?.answer();
      }
      expect(await good).toHaveLength(many.length);
      expect(store.writes.map(({ options }) => options)).toEqual([
        {},
        {},
        { checkpoints: [{ stream: 's', ...at(1), from: 0, to: 1 }] },
      ]);

      const bad = queue.add(many, at(2));
      await turn();
      store.writes[3]?.answer();
      await turn();
      store.writes[4]?.fail(new Error('no'));
      await turn();
      store.writes[5]?.answer();
      expect((await bad).filter(({ status }) => status === 'failed')).toHaveLength(GROUP_MESSAGES);
      expect(store.writes[5]?.options).toEqual({});
    });

    it('that can not be stored fail their own call and no other', async () => {
      const { store, queue } = setUp();
      const others = [queue.add([sized(1)], at(1, 'other')), queue.add([sized(2)])];
      const own = queue.add([sized(3), sized(4)], at(2));
      own.catch(() => undefined);
      await turn();
      const outcomes: AppendOutcome[] = ['a', 'b', 'c', 'd'].map((id) => ({ status: 'stored', id }));
      const [, checkpoint] = store.writes[0]?.options.checkpoints ?? [];
      store.writes[0]?.fail(new CheckpointError(outcomes, [{ checkpoint: checkpoint!, error: new Error('full') }]));
      expect(await Promise.all(others)).toEqual([[outcomes[0]], [outcomes[1]]]);
      await expect(own).rejects.toMatchObject({
        code: ErrorCode.CheckpointFailed,
        message: expect.stringMatching(/position of source 'file' on 's': full/),
        outcomes: outcomes.slice(2),
      });
    });

    it('tell of all messages of a call of several writes when they can not be stored', async () => {
      const { store, queue } = setUp();
      const own = queue.add(
        range(0, GROUP_MESSAGES + 1).map((data) => sized(data)),
        at(2),
      );
      own.catch(() => undefined);
      await turn();
      store.writes[0]?.answer();
      await turn();
      const [checkpoint] = store.writes[1]?.options.checkpoints ?? [];
      const outcomes: AppendOutcome[] = [{ status: 'duplicate' }];
      store.writes[1]?.fail(new CheckpointError(outcomes, [{ checkpoint: checkpoint!, error: new Error('full') }]));
      const error: unknown = await own.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(CheckpointError);
      expect((error as CheckpointError).outcomes).toHaveLength(GROUP_MESSAGES + 1);
    });

    it('without messages fail if the write does, or the stream takes nothing', async () => {
      const { store, queue, refused } = setUp();
      refused.set('shut', new AppendError(ErrorCode.StreamClosed, 'closed', 'no'));
      const shut = queue.add([], at(1), 'shut');
      const failing = queue.add([], at(1));
      failing.catch(() => undefined);
      await expect(shut).rejects.toMatchObject({ code: ErrorCode.StreamClosed });
      store.writes[0]?.fail(new MinibatchError(ErrorCode.StoreUnavailable, 'gone'));
      await expect(failing).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
      await queue.answered();
    });
  });

  describe('messages that are held up', () => {
    /** The outcome of a message of the write that the store gives later. */
    function heldUp(write: PendingWrite | undefined, index: number) {
      let settle!: (outcome: AppendOutcome) => void;
      write?.late?.(index, new Promise((resolve) => (settle = resolve)));
      return (outcome: AppendOutcome) => settle(outcome);
    }

    it('hold up no other append, and are waited for by a call that waits for all', async () => {
      const { store, queue, appended } = setUp();
      const answers = ['a', 'x', 'b'].map((data) => queue.add([sized(data)]));
      await turn();
      const settle = heldUp(store.writes[0], 1);
      store.writes[0]?.answer();
      expect(await answers[0]).toMatchObject([{ status: 'stored' }]);
      expect(await answers[2]).toMatchObject([{ status: 'stored' }]);
      const later = queue.add([sized('c')]);
      await turn();
      store.writes[1]?.answer();
      expect(await later).toMatchObject([{ status: 'stored' }]);

      let answered = false;
      const all = queue.answered().then(() => (answered = true));
      await turn();
      expect(answered).toBe(false);
      appended.length = 0;
      settle({ status: 'stored', id: 'late' });
      expect(await answers[1]).toEqual([{ status: 'stored', id: 'late' }]);
      await all;
      expect(appended).toEqual(['s']);
    });

    it('let the position of their call wait, and keep it out if they fail', async () => {
      const { store, queue } = setUp();
      store.auto = false;
      const [good, bad] = ['good', 'bad'].map((source) =>
        queue.add([sized(1), sized(2)], { source, position: source }),
      );
      await turn();
      const [first, second] = [heldUp(store.writes[0], 1), heldUp(store.writes[0], 3)];
      store.writes[0]?.answer();
      await turn();
      expect(store.writes).toHaveLength(1);
      second({ status: 'failed', error: new Error('no') });
      expect(await bad).toMatchObject([{ status: 'stored' }, { status: 'failed' }]);
      first({ status: 'duplicate' });
      await turn();
      const stored = { stream: 's', source: 'good', position: 'good', from: 0, to: 0 };
      expect(store.writes.slice(1)).toMatchObject([{ messages: [], options: { checkpoints: [stored] } }]);
      store.writes[1]?.answer();
      expect(await good).toMatchObject([{ status: 'stored' }, { status: 'duplicate' }]);
    });

    it('do not put back the position of a later call of the source', async () => {
      const { store, queue } = setUp();
      const first = queue.add([sized(1)], { source: 'file', position: 1 });
      await turn();
      const settle = heldUp(store.writes[0], 0);
      store.writes[0]?.answer();
      const second = queue.add([sized(2)], { source: 'file', position: 2 });
      await turn();
      store.writes[1]?.answer();
      await second;
      settle({ status: 'stored', id: 'late' });
      expect(await first).toEqual([{ status: 'stored', id: 'late' }]);
      expect(store.writes).toHaveLength(2);
    });

    it('of one part let the position of the whole call wait', async () => {
      const { store, queue } = setUp();
      const own = queue.add(
        range(0, GROUP_MESSAGES + 1).map((data) => sized(data)),
        { source: 'file', position: 1 },
      );
      await turn();
      const settle = heldUp(store.writes[0], 5);
      store.writes[0]?.answer();
      await turn();
      expect(store.writes[1]?.options).toEqual({});
      store.writes[1]?.answer();
      await turn();
      settle({ status: 'duplicate' });
      await turn();
      expect(store.writes[2]).toMatchObject({ messages: [], options: { checkpoints: [{ position: 1 }] } });
      store.writes[2]?.answer();
      expect(await own).toHaveLength(GROUP_MESSAGES + 1);
    });

    it('end with the queue', async () => {
      const { store, queue } = setUp();
      const own = queue.add([sized(1)]);
      await turn();
      heldUp(store.writes[0], 0);
      store.writes[0]?.answer();
      await turn();
      queue.abandon();
      expect(await own).toMatchObject([{ status: 'failed', error: { stored: 'unknown' } }]);
      await queue.answered();
    });
  });

  it('knows when all that was added is answered, without waiting for what comes later', async () => {
    const { store, queue } = setUp();
    void queue.add([sized(1)]);
    await turn();
    let answered = false;
    void queue.answered().then(() => (answered = true));
    void queue.add([sized(2)]);
    await turn();
    expect(answered).toBe(false);
    store.writes[0]?.answer();
    await turn();
    expect(answered).toBe(true);
    store.writes[1]?.answer();
  });
});
