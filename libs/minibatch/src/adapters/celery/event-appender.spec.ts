import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import { toStorable } from '../../storage/storable.js';
import type { CeleryEventSourceOptions } from './celery-source.options.js';
import { resolveCelery } from './celery-source.options.js';
import { decodeBody, decodeEnvelope } from './event-body.js';
import { newCeleryCounters } from './event-counters.js';
import { MessageProblems } from '../message-problems.js';
import { EventAppender, type IncomingMessage, nameOfIncoming } from './event-appender.js';
import { TaskMemory } from './task-memory.js';

/** Takes what a store takes. */
class Target implements SourceTarget {
  readonly name = 'tasks';
  readonly stored: unknown[] = [];
  append: SourceTarget['append'] = async (data, options = {}) => {
    const { dedupeId = 'x' } = options;
    if (dedupeId.length > 512 || dedupeId.includes('\0')) throw new MinibatchError(ErrorCode.NotStorable, 'dedupeId');
    this.stored.push(toStorable(data).value);
  };
  appendMany: SourceTarget['appendMany'] = async (data, options = {}) => {
    const before = this.stored.length;
    try {
      for (const [index, item] of data.entries()) await this.append(item, options.each?.(item, index));
    } catch (error) {
      this.stored.length = before;
      throw error;
    }
  };
  position = () => Promise.resolve(undefined);
}

function make(
  options: Partial<CeleryEventSourceOptions> = {},
  target: SourceTarget & { stored: unknown[] } = new Target(),
) {
  const counts = newCeleryCounters();
  const lines: string[] = [];
  const say = (line: string) => void lines.push(line);
  const resolved = resolveCelery('Feed', { url: 'redis://h', ...options });
  const { where, unstorable } = resolved;
  const problems = new MessageProblems<IncomingMessage>({
    where,
    nameOf: nameOfIncoming,
    counters: counts,
    log: { log: say, warn: say, error: say },
    unstorable: typeof unstorable === 'function' ? ({ data }, error) => unstorable(data, error) : unstorable,
  });
  const appender = new EventAppender(target, resolved, new TaskMemory(10), problems, counts);
  const feed = (text: string) => appender.append(appender.take(decodeBody(text, undefined)));
  return { appender, counts, lines, feed, stored: target.stored };
}

const ended = (uuid: string, more = '') => `{"type":"task-succeeded","uuid":${JSON.stringify(uuid)}${more}}`;

describe('what workers send', () => {
  it.each([
    ended('a', ',"hostname":{"toString":null}'),
    ended('a', ',"clock":{"toString":1},"timestamp":[{"valueOf":null}]'),
    ended('a', ',"__proto__":{"uuid":1}'),
    ended('a', `,"result":${'['.repeat(50)}${']'.repeat(50)}`),
    ended('a', ',"pid":NaN,"clock":1e400,"timestamp":99999999999999999999999'),
  ])('is stored, whatever its fields are: %s', async (text) => {
    const { counts, feed, stored } = make({ raw: true, events: '*' });
    await feed(text);
    expect(stored).toHaveLength(1);
    expect(counts).toMatchObject({ received: 1, appended: 1, malformed: 0, unstorable: 0 });
  });

  it.each([
    ended('x'.repeat(600)),
    ended('a\0b'),
    ended('a', ',"nul\\u0000":1'),
    ended('a', `,"result":${'['.repeat(10_000)}${']'.repeat(10_000)}`),
  ])('is passed over alone if no store can take it: %#', async (text) => {
    const { counts, feed } = make({ raw: true, events: '*' });
    await feed(`[${ended('before')},${text},${ended('after')}]`);
    expect(counts).toMatchObject({ received: 3, appended: 2, unstorable: 1 });
  });

  it('never throws in the client’s callback', async () => {
    const { appender, counts } = make({ raw: true, events: '*' });
    const field = fc.oneof(fc.jsonValue(), fc.constantFrom({ toString: null }, '\0', '\ud800', 'x'.repeat(600), ''));
    const event = fc.dictionary(
      fc.constantFrom('type', 'uuid', 'hostname', 'pid', 'clock', 'timestamp', 'name', 'retries', '__proto__', 'a'),
      fc.oneof(field, fc.constantFrom('task-sent', 'task-received', 'task-retried', 'task-failed', 'worker-online')),
    );
    const text = fc.oneof(
      fc.string(),
      fc.oneof(event, fc.array(event)).map((body) => JSON.stringify(body)),
    );
    await fc.assert(
      fc.asyncProperty(text, fc.boolean(), async (body, isEnveloped) => {
        const envelope = JSON.stringify({ body, properties: {} });
        const decoded = isEnveloped ? decodeEnvelope(envelope) : decodeBody(Buffer.from(body), undefined);
        await appender.append(appender.take(decoded));
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array(), async (bytes) => {
        await appender.append(appender.take(decodeBody(Buffer.from(bytes), undefined)));
        await appender.append(appender.take(decodeEnvelope(Buffer.from(bytes).toString())));
      }),
    );
    expect(counts.malformed + counts.appended + counts.unstorable).toBeGreaterThan(100);
  });
});

describe('what is no event', () => {
  it('is what malformed makes of it', async () => {
    const { counts, feed, stored } = make({
      malformed: (body, error) => (body === '1' ? undefined : { body, why: error.message }),
    });
    await feed(`[1,{"type":5},${ended('a')}]`);
    expect(stored).toEqual([
      { body: '{"type":5}', why: expect.stringContaining('not an event') },
      expect.objectContaining({ task_id: 'a' }),
    ]);
    expect(counts).toMatchObject({ malformed: 2, received: 3, appended: 2, skipped: 1 });
  });

  it("is text with malformed: 'keep'", async () => {
    const { counts, feed, stored, lines } = make({ malformed: 'keep' });
    await feed('{"type":5}');
    expect(stored).toEqual(['{"type":5}']);
    expect(counts).toMatchObject({ malformed: 1, received: 1, appended: 1, skipped: 0 });
    expect(lines).toEqual([expect.stringMatching(/^Feed: a body is malformed and was kept as it is \(1 so far\): /)]);
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('no idea');
      },
    ],
    ['rejects', () => Promise.reject(new Error('no idea'))],
    ['gives nonsense', () => Symbol('s')],
  ])('goes to unstorable if malformed %s', async (_, malformed) => {
    const given: unknown[] = [];
    const { counts, feed } = make({ malformed, unstorable: (message) => void given.push(message) });
    await feed(`[1,${ended('a')}]`);
    expect(given).toHaveLength(1);
    expect(counts).toMatchObject({ malformed: 1, appended: 1, unstorable: 1 });
  });
});

describe('what can not be stored', () => {
  const bad = `[${ended('a')},${ended('x'.repeat(600))}]`;

  it('is given to unstorable, and is redelivered if that fails', async () => {
    const given: unknown[] = [];
    const { counts, feed } = make({ unstorable: async (message) => void given.push(message) });
    await feed(bad);
    expect(given).toEqual([expect.objectContaining({ task_id: 'x'.repeat(600) })]);
    expect(counts).toMatchObject({ appended: 1, unstorable: 1 });
    const failing = make({ unstorable: () => Promise.reject(new Error('the other place is full')) });
    await expect(failing.feed(bad)).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringContaining('the other place is full'),
    });
  });

  it('is told apart from a store that is away', async () => {
    const down = new Target();
    down.append = down.appendMany = () =>
      Promise.reject(new AppendError(ErrorCode.StoreUnavailable, 'down', 'unknown'));
    const { counts, feed } = make({}, down);
    await expect(feed(bad)).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
    expect(counts).toMatchObject({ appended: 0, unstorable: 0 });
  });
});
