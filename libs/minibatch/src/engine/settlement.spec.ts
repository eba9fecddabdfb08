import { describe, expect, it } from 'vitest';
import type { NewDeadLetter, RefusedMessages, SettledWindow, StreamStore } from '../storage/stream-store.interface.js';
import type { Window } from '../windows/window.js';
import { setUp } from './evidence.spec.support.js';
import { Process, stop, STREAM } from './process.spec.support.js';

const REST =
  'They stay in the buffer, and this process skips them; after a restart the group gets them once more. Change or remove their documents. ';

/** A store that does what it is asked and says that it could not do it with some messages. */
function refusing(database: Database, method: 'settle' | 'bury', bad: readonly unknown[]) {
  return start(database, async ({ method: called, args, proceed }) => {
    const done = await proceed();
    if (called !== method) return done;
    const messages =
      method === 'settle'
        ? (args[1] as readonly SettledWindow[]).flatMap((window) => window.messages)
        : (args[1] as readonly NewDeadLetter[]).map(({ message }) => message);
    const ids = messages.filter(({ data }) => bad.includes(data)).map(({ id }) => id);
    const refused: RefusedMessages = { ids, reason: 'no room' };
    return ids.length > 0 ? refused : undefined;
  });
}

function start(database: Database, around: Around) {
  const handler = (window: Window) => {
    for (const message of window.messages) if (Number(message.data) < 0) window.reject(message, 'negative');
  };
  return new Process(database, { around }).consumer({ size: 8, handler }).start();
}

type Database = ConstructorParameters<typeof Process>[0];
type Around = NonNullable<NonNullable<ConstructorParameters<typeof Process>[1]>['around']>;

const idsOf = async (store: StreamStore, data: readonly unknown[]) => {
  const { messages } = await store.fetch({ stream: STREAM, group: 'default', partition: 0 }, undefined, {
    messages: 100,
    bytes: 1_000_000,
  });
  return messages.filter((message) => data.includes(message.data)).map(({ id }) => id);
};

describe('messages that a store does not let go', () => {
  it.each([
    { bad: [3], what: '1 message' },
    { bad: [1, 2, 3, 4, 5, 6, 7], what: '7 messages' },
  ])('are logged when they are settled: $what', async ({ bad, what }) => {
    const { database } = setUp();
    const p = await refusing(database, 'settle', bad);
    await p.put(1, 2, 3, 4, 5, 6, 7, 8);
    const ids = await idsOf(p.store, bad);
    await p.engine.settled();
    expect(p.logged.filter((line) => line.includes('stay in the buffer'))).toEqual([
      `the store refuses to change ${what} that consumers have handled: no room. ${REST}The first: ${ids.slice(0, 5).join(', ')}`,
    ]);
    await stop(p);
  });

  it('are logged when they fit into no dead letter, and do not count as one', async () => {
    const { database } = setUp();
    const p = await refusing(database, 'bury', [-1]);
    await p.put(1, 2, 3, 4, 5, 6, -1, -2);
    const ids = await idsOf(p.store, [-1]);
    await p.engine.settled();
    expect(p.logged.filter((line) => line.includes('stay in the buffer'))).toEqual([
      `Test.default: gave up 1 message of '${STREAM}' and could not store a dead letter: no room. ${REST}The first: ${ids.join()}`,
    ]);
    expect(p.logged.filter((line) => line.includes('gave up 1 of 8 messages'))).toHaveLength(1);
    expect(p.engine.status()[0]).toMatchObject({ deadLettered: 1 });
    await stop(p);
  });

  it('leave no line that they are dead letters if none of them is', async () => {
    const { database } = setUp();
    const p = await refusing(database, 'bury', [-1, -2]);
    await p.append(1, 2, 3, 4, 5, 6, -1, -2);
    expect(p.logged.filter((line) => line.includes('dead letters of'))).toEqual([]);
    expect(p.logged.join()).toContain('could not store a dead letter');
    expect(p.engine.status()[0]).toMatchObject({ deadLettered: 0 });
    await stop(p);
  });
});
