import { describe, expect, it } from 'vitest';
import { ErrorCode, RejectMessages } from '../errors/minibatch.error.js';
import type { Window } from '../windows/window.js';
import { Process, stop, storeToInspect } from './process.spec.support.js';

describe('messages that the handler rejects', () => {
  it('commits the rest of a window when the handler rejects a message; alone it has one more try', async () => {
    const { database, letters, buffered } = storeToInspect();
    const delivered: unknown[] = [];
    const p = await new Process(database)
      .consumer({
        size: 3,
        handler: (window) => {
          for (const message of window.messages) if (message.data === 2) window.reject(message, 'no twos');
          return window.data.filter((item) => item !== 2);
        },
        sinks: [{ name: 'sink', sink: { put: (result) => void delivered.push(result) } }],
      })
      .start();
    await p.append(1, 2, 3);
    expect(delivered[0]).toEqual([1, 3]);
    expect((await letters()).map(({ data, error }) => [data, error])).toEqual([[2, 'no twos']]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('logs why the last message was given up, not what the window failed with before', async () => {
    const { database, letters } = storeToInspect();
    let calls = 0;
    const p = await new Process(database)
      .consumer({
        size: 2,
        retry: { attempts: 1, base: 1_000, max: 60_000, jitter: 0 },
        handler: (window) => {
          calls += 1;
          if (calls === 1) throw new Error('the service answers 503');
          for (const message of window.messages)
            if (message.data === 2) window.reject(message, 'unknown address (422)');
        },
      })
      .start();
    await p.append(1, 2);
    await p.advance(60_000);
    expect((await letters()).map(({ data, error }) => [data, error])).toEqual([[2, 'unknown address (422)']]);
    const line = p.logged.find((each) => each.includes('gave up'));
    expect(line).toContain('gave up 1 of 2 messages of window ');
    expect(line).toMatch(/; it is a dead letter of '.+', the last with the error: unknown address \(422\)$/);
    await stop(p);
  });

  it.each([
    {
      how: 'returned a result',
      result: ['nothing good'],
      delivered: [['nothing good'], ['nothing good'], ['nothing good']],
    },
    { how: 'returned nothing', result: undefined, delivered: [] },
    { how: 'threw RejectMessages', result: RejectMessages, delivered: [] },
  ])('a handler that rejected every message and $how', async ({ result, delivered }) => {
    const { database, letters, buffered } = storeToInspect();
    const put: unknown[] = [];
    const p = await new Process(database)
      .consumer({
        size: 2,
        handler: (window) => {
          const rejected = window.messages.map((message) => ({ message, reason: 'bad' }));
          if (result === RejectMessages) throw new RejectMessages(rejected);
          for (const { message, reason } of rejected) window.reject(message, reason);
          return result;
        },
        sinks: [{ name: 'sink', sink: { put: (value) => void put.push(value) } }],
      })
      .consumer({ size: 1, group: 'evidence', handler: () => undefined })
      .start();
    await p.append(1, 2);
    await p.advance(60_000);
    expect((await letters()).map(({ data }) => data)).toEqual([1, 2]);
    expect(await buffered()).toBe(0);
    expect(put).toEqual(delivered);
    await stop(p);
  });

  it('takes RejectMessages for several; a rejected message of a window of one is given up, too', async () => {
    const { database, letters, buffered } = storeToInspect();
    const handler = (window: Window) => {
      const rejected = window.messages.filter(({ data }) => data !== 1);
      if (rejected.length > 0) throw new RejectMessages(rejected.map((message) => ({ message, reason: 'not one' })));
    };
    const p = await new Process(database)
      .consumer({ size: 3, handler })
      .consumer({ size: 1, group: 'single', handler })
      .start();
    await p.append(0, 1, 2);
    const found = await letters();
    expect(found.filter(({ group }) => group === 'default').map(({ data }) => data)).toEqual([0, 2]);
    expect(found.filter(({ group }) => group === 'single').map(({ data }) => data)).toEqual([0, 2]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('refuses the rejection of a message of another window as a failed attempt', async () => {
    const { database } = storeToInspect();
    const p = await new Process(database)
      .consumer({ size: 1, handler: (window) => window.reject({ id: 'other', data: 1, created: new Date() }, 'x') })
      .start();
    await p.append(1);
    expect(p.engine.status()[0]?.lastError?.code).toBe(ErrorCode.InvalidOptions);
    await stop(p);
  });
});
