import { describe, expect, it } from 'vitest';
import type { Database } from './database.js';
import { Notifications } from './notifications.js';

/** A server that answers when it is told to, and the streams that each statement has named. */
function server() {
  const sent: string[][] = [];
  const answers: (() => void)[] = [];
  const database = {
    options: { schema: 'minibatch' },
    once: (_statement: unknown, [, payloads]: [string, string[]]) => {
      sent.push(payloads.map((payload) => payload.slice(payload.indexOf(':') + 1)));
      return new Promise<never[]>((resolve) => answers.push(() => resolve([])));
    },
  };
  const answer = async () => {
    answers.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { sent, answer, notifications: new Notifications(database as unknown as Database, true) };
}

describe('notifications', () => {
  it('go at once, and those that come while one is under way go together', async () => {
    const { sent, answer, notifications } = server();
    for (const stream of ['a', 'b', 'c']) notifications.tell([stream]);
    expect(sent).toEqual([['a']]);
    await answer();
    expect(sent).toEqual([['a'], ['b', 'c']]);
    await answer();
    notifications.tell(['d']);
    expect(sent).toEqual([['a'], ['b', 'c'], ['d']]);
    notifications.close();
  });
});
