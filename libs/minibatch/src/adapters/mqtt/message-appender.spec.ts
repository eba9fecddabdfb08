import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import { MessageProblems } from '../message-problems.js';
import { newCounters } from '../source-counters.js';
import { MessageAppender, nameOfMessage } from './message-appender.js';
import type { MqttMessage } from './mqtt-message.js';
import { type MqttSourceOptions, resolveSource } from './mqtt-source.options.js';

/** Takes all but what is called bad, as a store does: before anything is written, or in the middle. */
class Target implements SourceTarget {
  readonly name = 'readings';
  readonly stored: unknown[] = [];
  constructor(private readonly says: 'before' | 'after' = 'before') {}

  async append(data: unknown): Promise<void> {
    if (data === 'down') throw new AppendError(ErrorCode.StoreUnavailable, 'the store is down', 'unknown');
    if (data === 'bad') throw new AppendError(ErrorCode.NotStorable, 'data is bad', 'no');
    this.stored.push(data);
  }

  async appendMany(data: readonly unknown[]): Promise<void> {
    if (this.says === 'before' && data.includes('bad'))
      throw new AppendError(ErrorCode.NotStorable, 'data is bad', 'no');
    const results = await Promise.allSettled(data.map((item) => this.append(item)));
    const failed = results.flatMap((result, index) =>
      result.status === 'rejected' ? [{ index, stored: 'no', error: result.reason as Error }] : [],
    );
    if (failed.length > 0) throw new AppendError(ErrorCode.NotStorable, 'some', 'no', { details: { failed } });
  }

  position(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
}

describe('MessageAppender', () => {
  const message = (data: unknown): MqttMessage => ({
    topic: 't',
    payload: Buffer.from(JSON.stringify(data)),
    data,
    qos: 1,
    retain: false,
    dup: false,
    properties: {},
  });

  function make(target: SourceTarget, options: Partial<MqttSourceOptions> = {}) {
    const source = resolveSource('Feed', { url: 'mqtt://h', clientId: 'c', topics: 't', ...options });
    const lines: string[] = [];
    const say = (line: string) => void lines.push(line);
    const counters = newCounters();
    const { where, unstorable } = source;
    const log = { log: say, warn: say, error: say };
    const problems = new MessageProblems({ where, unstorable, nameOf: nameOfMessage, counters, log });
    return { appender: new MessageAppender(target, source, problems, counters), counters, lines };
  }

  it.each(['before', 'after'] as const)(
    'stores all but those that can not be, once (noticed %s the write)',
    async (says) => {
      const target = new Target(says);
      const { appender, counters, lines } = make(target);
      const messages = ['a', 'bad', 'b', 'bad'].map(message);
      const held = await appender.append(messages);
      expect(target.stored).toEqual(['a', 'b']);
      expect([...held]).toEqual([messages[1], messages[3]]);
      expect(counters.unstorable).toBe(2);
      expect(lines[1]).toMatch(
        /^Feed: a message of 't' \(5 bytes\) cannot be stored and stays with the broker \(2 so far\): data/,
      );
    },
  );

  it('acknowledges those that it may skip or give away', async () => {
    const given: string[] = [];
    for (const unstorable of ['skip', (_: MqttMessage, error: Error) => void given.push(error.message)] as const) {
      const held = await make(new Target(), { unstorable }).appender.append(['a', 'bad'].map(message));
      expect(held.size).toBe(0);
    }
    expect(given).toEqual([expect.stringContaining('data is bad')]);
  });

  it('treats what a function throws for as one message that can not be stored', async () => {
    const target = new Target();
    const dedupeId = ({ data }: MqttMessage) => (data as string).slice(0);
    const held = await make(target, { dedupeId, unstorable: 'hold' }).appender.append([message(5), message('a')]);
    expect([...held].map(({ data }) => data)).toEqual([5]);
    expect(target.stored).toEqual(['a']);
  });

  it.each(['before', 'after'] as const)('fails when the store does (%s)', async (says) => {
    const { appender } = make(new Target(says));
    await expect(appender.append(['a', 'bad', 'down'].map(message))).rejects.toBeInstanceOf(AppendError);
  });

  it('fails when a function of the user fails to take what can not be stored', async () => {
    const unstorable = () => Promise.reject(new Error('the other place is full'));
    await expect(make(new Target(), { unstorable }).appender.append([message('bad')])).rejects.toThrow(/is full/);
  });

  it('fails when too many are held', async () => {
    const { appender } = make(new Target(), { maxInFlight: 4 });
    await appender.append([message('bad')]);
    await expect(appender.append([message('a'), message('bad')])).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      details: { reason: 'UNSTORABLE', topic: 't', held: 2 },
    } satisfies Partial<MinibatchError>);
  });

  it("fails with what a message was refused for, with unstorable: 'fail'", async () => {
    const { appender, counters, lines } = make(new Target(), { unstorable: 'fail' });
    await expect(appender.append(['a', 'bad'].map(message))).rejects.toMatchObject({
      code: ErrorCode.NotStorable,
      message: expect.stringContaining("Feed: a message of 't' (5 bytes): data is bad"),
      details: { reason: 'UNSTORABLE', topic: 't' },
    });
    expect(counters).toMatchObject({ received: 2, appended: 1, skipped: 0, unstorable: 1 });
    expect(lines).toEqual([]);
  });

  it('logs the first ten malformed payloads', async () => {
    const { appender, counters, lines } = make(new Target());
    const broken = { ...message(''), payload: Buffer.from('{') };
    await appender.append(Array.from({ length: 100 }, () => broken));
    expect(counters).toEqual({ received: 100, appended: 100, malformed: 100, skipped: 0, unstorable: 0 });
    expect(lines).toHaveLength(10);
  });
});
