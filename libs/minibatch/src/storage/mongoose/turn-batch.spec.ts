import { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { TurnBatch } from './turn-batch.js';

/** A server that refuses each command with a bad request in it. */
function batchOf(refuse: (requests: readonly string[]) => Error | undefined) {
  const sent: (readonly string[])[] = [];
  const batch = new TurnBatch<string, string>(async (requests) => {
    sent.push(requests);
    const error = refuse(requests);
    if (error) throw error;
    return requests.map((request) => request.toUpperCase());
  });
  return { batch, sent };
}

describe('calls of one turn', () => {
  it('go out together, each with an answer of its own; those of the next turn apart', async () => {
    const { batch, sent } = batchOf(() => undefined);
    const later = Promise.resolve().then(() => batch.add('b'));
    expect(await Promise.all([batch.add('a'), later])).toEqual(['A', 'B']);
    expect(await batch.add('c')).toBe('C');
    expect(sent).toEqual([['a', 'b'], ['c']]);
  });

  it('fail only by their own fault', async () => {
    const { batch, sent } = batchOf((requests) => (requests.includes('bad') ? new TypeError('no') : undefined));
    const outcomes = await Promise.allSettled([batch.add('a'), batch.add('bad')]);
    expect(outcomes).toEqual([
      { status: 'fulfilled', value: 'A' },
      { status: 'rejected', reason: new TypeError('no') },
    ]);
    expect(sent).toEqual([['a', 'bad'], ['a'], ['bad']]);
  });

  it('are not tried again where the server is away', async () => {
    const away = new mongo.MongoNetworkError('away');
    const { batch, sent } = batchOf(() => away);
    const outcomes = await Promise.allSettled([batch.add('a'), batch.add('b')]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(sent).toHaveLength(1);
  });
});
