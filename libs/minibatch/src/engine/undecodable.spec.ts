import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import { BrokenText } from '../../../../test/support/hostile-values.js';
import { type ConsumerChoice, Process, STREAM } from './process.spec.support.js';

const BROKEN = { x: new BrokenText() };

async function setUp(options: ConsumerChoice) {
  const database = new MemoryDatabase();
  const plain = new MemoryStreamStore(database);
  const p = await new Process(database).consumer(options).start();
  return {
    database,
    plain,
    p,
    letters: () => plain.deadLetters(STREAM, {}, undefined, 100),
    buffered: async () => (await plain.stats([STREAM]))[0]?.buffered,
    stop: async () => {
      const stopping = p.engine.stop(0);
      await p.clock.advance(10_000);
      await stopping;
    },
  };
}

describe('a message that cannot be decoded', () => {
  it('is given up at once, alone; the others are handled in order, in their first attempt', async () => {
    const { p, letters, buffered, stop } = await setUp({ size: 4 });
    await p.append(1, BROKEN, 2, BROKEN);
    expect(p.seen).toEqual([{ id: expect.any(String), attempt: 1, data: [1, 2] }]);
    expect(await buffered()).toBe(0);
    const found = await letters();
    expect(found).toHaveLength(2);
    for (const letter of found) {
      expect(letter).toMatchObject({ data: undefined, undecodable: 'text is not UTF-8', attempts: 0 });
      expect(letter.error).toContain(letter.messageId);
      expect(letter.error).toContain(ErrorCode.Undecodable);
    }
    expect(p.engine.status()[0]).toMatchObject({
      deadLettered: 2,
      failures: 0,
      committedMessages: 4,
      activity: 'waiting',
      lastError: { code: ErrorCode.Undecodable },
    });
    await stop();
  });

  it('alone in its window calls no handler and holds nothing up', async () => {
    const { p, letters, buffered, stop } = await setUp({ size: 1 });
    await p.append(1, BROKEN, 2);
    expect(p.seen.map(({ data }) => data)).toEqual([[1], [2]]);
    expect(await letters()).toHaveLength(1);
    expect(await buffered()).toBe(0);
    await stop();
  });

  it('does not disturb the search for one that fails', async () => {
    const { p, letters, buffered, stop } = await setUp({
      size: 4,
      handler: ({ data }) => {
        if (data.includes(2)) throw new Error('no twos');
      },
    });
    await p.append(1, BROKEN, 2, 3);
    await p.advance(10 * 60_000);
    expect((await letters()).map(({ data, attempts }) => [data, attempts])).toEqual([
      [undefined, 0],
      [2, 5],
    ]);
    expect(p.seen.every(({ data }) => data.length > 0)).toBe(true);
    expect(await buffered()).toBe(0);
    await stop();
  });

  it('is found again by the next holder, which has one letter of it', async () => {
    const { database, p, letters, buffered } = await setUp({
      size: 3,
      handler: () => {
        throw new Error('down');
      },
    });
    await p.append(1, BROKEN, 2);
    expect(await letters()).toHaveLength(1);
    p.kill();
    const heir = await new Process(database, { clock: p.clock }).consumer({ size: 3 }).start();
    await p.clock.advance(60_000, () => heir.engine.settled());
    expect(heir.seen.map(({ data }) => data)).toEqual([[1, 2]]);
    expect(await letters()).toHaveLength(1);
    expect(await buffered()).toBe(0);
    const stopping = heir.engine.stop(0);
    await heir.clock.advance(10_000);
    await stopping;
  });

  it('ends no strategy that looks at it', async () => {
    class Even extends WindowEmitter<number> {
      private even({ messages }: MessageView<number>) {
        return messages.filter(({ data }) => data % 2 === 0);
      }
      windowReady(view: MessageView<number>): boolean {
        return this.even(view).length >= 2;
      }
      query(view: MessageView<number>) {
        return this.even(view).slice(0, 2);
      }
    }
    const { p, letters, stop } = await setUp({ emitter: new Even() });
    await p.append(BROKEN, 2, BROKEN, 3, 4);
    expect(p.values).toEqual([2, 4]);
    expect(await letters()).toHaveLength(2);
    await p.append(6, BROKEN, 8);
    expect(p.values).toEqual([2, 4, 6, 8]);
    expect(p.engine.status()[0]).toMatchObject({ deadLettered: 3, buffered: 1 });
    expect(p.logged.filter((line) => line.includes(ErrorCode.EmitterFailed))).toEqual([]);
    await stop();
  });
});
