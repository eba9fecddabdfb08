import { describe, expect, it } from 'vitest';
import { MessageProblems } from '../message-problems.js';
import { newCounters } from '../source-counters.js';
import { DocumentAppender, nameOfDocument } from './document-appender.js';
import { followChanges } from './change-feed.js';
import type { ChangeEvent } from './change-stream.js';
import { JumpingClock, MemoryTarget } from './collection-source.spec.support.js';
import { decodePosition } from './position.js';

describe('followChanges', () => {
  const clock = new JumpingClock();

  /** Gives the steps one after the other, then ends. A step's position is its number. */
  async function follow(steps: readonly (() => readonly ChangeEvent[])[]) {
    const target = new MemoryTarget();
    const stop = new AbortController();
    const writes: unknown[] = [];
    target.before = (data) => void writes.push(data);
    const reading = {
      where: 'Feed',
      map: (document: unknown) => document,
      key: undefined,
      clock,
      pollInterval: 10,
    };
    const counters = newCounters();
    const nameOf = nameOfDocument('shop.orders');
    const { log } = target;
    const problems = new MessageProblems({ where: 'Feed', unstorable: 'skip', nameOf, counters, log });
    let step = 0;
    const changes = {
      get position() {
        return { startAfter: { _data: String(step) } };
      },
      read() {
        const events = steps[step]?.() ?? [];
        step += 1;
        if (step > steps.length) stop.abort();
        return Promise.resolve(events);
      },
    };
    const appender = new DocumentAppender('shop.orders', target, reading, problems, counters, stop.signal);
    const next = await followChanges(changes, appender, reading);
    return { target, writes, next, position: decodePosition('Feed', 'shop.orders', target.stored) };
  }

  const insert = (id: number): ChangeEvent => ({
    _id: { _data: `token ${id}` },
    operationType: 'insert',
    fullDocument: { _id: id },
    documentKey: { _id: id },
  });

  it('stores the position with the messages, nothing while it is idle', async () => {
    const { target, writes, position } = await follow([() => [insert(1), insert(2)], () => [], () => []]);
    expect(target.all('_id')).toEqual([1, 2]);
    expect(writes).toHaveLength(1);
    expect(position).toEqual({ mode: 'changeStream', start: { startAfter: { _data: '1' } } });
  });

  it('stores a position that moves on without messages once in a while', async () => {
    const { writes, position } = await follow([
      () => [],
      () => {
        clock.jump(10_000);
        return [];
      },
      () => [],
    ]);
    expect(writes).toEqual([[]]);
    expect(position).toEqual({ mode: 'changeStream', start: { startAfter: { _data: '2' } } });
  });

  it('ends behind the event that ends the stream', async () => {
    const invalidate = { _id: { _data: 'token 2' }, operationType: 'invalidate' };
    const { target, next, position } = await follow([() => [insert(1), invalidate], () => [insert(3)]]);
    expect(target.all('_id')).toEqual([1]);
    expect(next).toEqual({ startAfter: { _data: '1' } });
    expect(position).toEqual({ mode: 'changeStream', start: next });
  });
});
