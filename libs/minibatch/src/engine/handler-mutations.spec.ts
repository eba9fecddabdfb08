import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { Message } from '../windows/message.js';
import { type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import { Process, STREAM } from './process.spec.support.js';

interface Price {
  euros?: number;
  cents?: number;
  tags: string[];
  bytes: Buffer;
}

const price = (euros: number): Price => ({ euros, tags: ['new'], bytes: Buffer.from([euros]) });

/** All that can be done to a message. */
function spoil({ data, created, headers }: Message): void {
  const changed = data as Price;
  changed.cents = (changed.euros ?? Number.NaN) * 100;
  delete changed.euros;
  changed.tags.push('seen');
  changed.bytes[0] = 99;
  created.setTime(0);
  if (headers) (headers as Record<string, string>)['by'] = 'handler';
}

/** What a reader is shown, copied, so that later changes don't show. */
function shown(messages: readonly Message[]) {
  return messages.map(({ data, created, headers }) => {
    const { euros, tags, bytes } = data as Price;
    return { euros, tags: [...tags], byte: bytes[0], created: created.getTime(), by: headers?.['by'] };
  });
}

const original = (euros: number) => ({ euros, tags: ['new'], byte: euros, created: 1_000, by: 'producer' });

async function appendPrices(process: Process, ...euros: number[]): Promise<void> {
  await process.store.append(
    euros.map((each) => ({
      stream: STREAM,
      data: price(each),
      created: new Date(1_000),
      headers: { by: 'producer' },
    })),
  );
  process.engine.wake(STREAM);
  await process.engine.settled();
}

async function stop(process: Process): Promise<void> {
  const stopping = process.engine.stop(0);
  await process.clock.advance(10_000);
  await stopping;
}

describe('what a handler does to its messages', () => {
  it('shows in no later attempt, no part, no dead letter and not after a redrive', async () => {
    const database = new MemoryDatabase();
    const plain = new MemoryStreamStore(database);
    const seen: ReturnType<typeof shown>[] = [];
    let isFixed = false;
    const p = await new Process(database)
      .consumer({
        size: 3,
        handler: (window) => {
          seen.push(shown(window.messages));
          const isBad = window.data.some((data) => (data as Price).euros === 2);
          for (const message of window.messages) spoil(message);
          if (isBad && !isFixed) throw new Error('bad');
        },
      })
      .start();
    await appendPrices(p, 1, 2, 3);
    await p.advance(10 * 60_000);
    expect(seen.length).toBeGreaterThan(5);
    expect(seen.flat()).toEqual(seen.flat().map(({ euros }) => original(euros!)));
    const letters = await plain.deadLetters(STREAM, {}, undefined, 10);
    expect(shown(letters.map((letter) => ({ ...letter, id: letter.messageId })))).toEqual([original(2)]);

    isFixed = true;
    await plain.redrive(STREAM, {});
    await plain.updateStream(STREAM, { flush: true });
    p.engine.wake(STREAM);
    await p.engine.refresh(STREAM);
    await p.engine.settled();
    expect(seen.at(-1)).toEqual([original(2)]);
    await stop(p);
  });

  it('shows to no sink, and what one sink does not to another', async () => {
    const seen: ReturnType<typeof shown>[] = [];
    const sink = {
      put: (_: unknown, window: Window) => {
        seen.push(shown(window.messages));
        for (const message of window.messages) spoil(message);
      },
    };
    const results: unknown[] = [];
    const result = { put: (given: unknown) => void results.push(given) };
    const p = await new Process(new MemoryDatabase())
      .consumer({
        size: 2,
        sinks: [
          { name: 'one', sink },
          { name: 'two', sink },
          { name: 'three', sink: result },
        ],
        handler: (window) => {
          for (const message of window.messages) spoil(message);
          return window.data;
        },
      })
      .start();
    await appendPrices(p, 1, 2);
    await p.advance(1_000);
    expect(seen).toEqual([
      [original(1), original(2)],
      [original(1), original(2)],
    ]);
    // The result is what the method returned, changes and all.
    expect(results).toEqual([[expect.objectContaining({ cents: 100 }), expect.objectContaining({ cents: 200 })]]);
    await stop(p);
  });

  it('takes nothing from a sink that takes its array apart and fails, nor from another', async () => {
    const taken: unknown[] = [];
    const others: unknown[] = [];
    const arrays = new Set<unknown>();
    let failures = 3;
    const takesApart = (results: unknown) => {
      const array = results as unknown[];
      arrays.add(array);
      const all = array.splice(0);
      if (failures > 0) {
        failures -= 1;
        throw new Error('not now');
      }
      taken.push(...all);
    };
    const p = await new Process(new MemoryDatabase())
      .consumer({
        size: 3,
        sinks: [
          { name: 'one', sink: { put: takesApart } },
          { name: 'two', sink: { put: (results: unknown) => void others.push(...(results as unknown[])) } },
        ],
        handler: ({ data }) => [...data],
      })
      .start();
    await p.append('a', 'b', 'c');
    await p.advance(10 * 60_000);
    expect(failures).toBe(0);
    expect(taken).toEqual(['a', 'b', 'c']);
    expect(others).toEqual(['a', 'b', 'c']);
    // Some sinks note by it what they have delivered.
    expect(arrays.size).toBe(1);
    await stop(p);
  });

  it('does not show to the strategy, nor the other way round', async () => {
    const seen: Record<string, ReturnType<typeof shown>> = {};
    const steps: Window[] = [];
    class Own extends WindowEmitter {
      windowReady(view: MessageView): boolean {
        return view.length >= 2;
      }
      query(view: MessageView) {
        const { messages } = view;
        seen['query'] ??= shown(messages);
        for (const message of messages) spoil(message);
        return messages;
      }
      override onProcess(window: Window): void {
        seen['onProcess'] ??= shown(window.messages);
        steps.push(window);
      }
      override onUndo(window: Window): void {
        seen['onUndo'] ??= shown(window.messages);
        steps.push(window);
      }
      override onEmit(window: Window): void {
        seen['onEmit'] = shown(window.messages);
        for (const message of window.messages) spoil(message);
        steps.push(window);
      }
      override onCommit(window: Window): void {
        steps.push(window);
      }
    }
    let attempts = 0;
    const p = await new Process(new MemoryDatabase())
      .consumer({
        emitter: new Own(),
        handler: (window) => {
          attempts += 1;
          seen[`handler ${attempts}`] = shown(window.messages);
          for (const message of window.messages) spoil(message);
          if (attempts === 1) throw new Error('not yet');
        },
      })
      .start();
    await appendPrices(p, 1, 2);
    await p.advance(10_000);
    const both = [original(1), original(2)];
    expect(seen).toEqual({
      query: both,
      onProcess: both,
      'handler 1': both,
      onUndo: both,
      'handler 2': both,
      onEmit: both,
    });
    // One object for all steps of an attempt: a strategy may keep notes by it.
    expect(steps[0]).toBe(steps[1]);
    expect(steps[2]).toBe(steps[3]);
    expect(steps[3]).toBe(steps[4]);
    expect(steps[1]).not.toBe(steps[2]);
    await stop(p);
  });

  it('rejects by the messages that a sink was shown, too', async () => {
    const database = new MemoryDatabase();
    const p = await new Process(database)
      .consumer({
        size: 1,
        handler: () => true,
        sinks: [{ name: 'sink', sink: { put: (_, window) => window.reject(window.messages[0]!, 'not here') } }],
      })
      .start();
    await p.append(1);
    await p.advance(10_000);
    const letters = await new MemoryStreamStore(database).deadLetters(STREAM, {}, undefined, 10);
    expect(letters.map(({ data, error }) => [data, error])).toEqual([[1, 'not here']]);
    await stop(p);
  });
});
