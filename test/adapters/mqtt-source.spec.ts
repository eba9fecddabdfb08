import { ErrorCode, type Window } from 'nestjs-minibatch';
import { type MqttMessage, MqttSink } from 'nestjs-minibatch/mqtt';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, later, Log, SOON } from '../e2e/support/applications.js';
import { application, connectTo, failing, sourcesOf, unique, useBroker } from './support/mqtt.js';

afterEach(closeAll);

const broker = useBroker({ webSockets: true, tls: true });

describe.each([5, 4] as const)('MqttSource: messages, protocol version %i', { timeout: 90_000 }, (protocolVersion) => {
  const { sourceOf, session } = sourcesOf(broker, protocolVersion);

  it('reads what matches its topics, wildcards too, with topic, flags and properties', async () => {
    const root = unique('house');
    const publisher = await connectTo(broker().url);
    await publisher.publishAsync(`${root}/kitchen/light`, '"kept"', { qos: 1, retain: true });
    const app = await application();
    app.attach(sourceOf({ topics: [`${root}/+/temperature`, `${root}/kitchen/light`, `${root}/cellar/#`] }));
    await app.arrived(1);
    expect(app.messages[0]).toMatchObject({
      data: 'kept',
      headers: { 'mqtt-topic': `${root}/kitchen/light`, 'mqtt-retain': 'true' },
    });

    const properties = {
      userProperties: { device: 'd1', tag: ['a', 'b'], 'mqtt-topic': 'not this' },
      contentType: 'text/json',
    };
    await publisher.publishAsync(`${root}/kitchen/temperature`, '{"celsius":21.5}', { qos: 1, properties });
    await publisher.publishAsync(`${root}/kitchen/humidity`, '1', { qos: 1 });
    await publisher.publishAsync(`${root}/cellar/wine/1/temperature`, '12', { qos: 1 });
    await app.arrived(3);
    const [, first, second] = app.messages;
    expect(first?.data).toEqual({ celsius: 21.5 });
    expect(first?.headers).toEqual({
      'mqtt-topic': `${root}/kitchen/temperature`,
      ...(protocolVersion === 5 ? { device: 'd1', tag: '["a","b"]', 'mqtt-content-type': 'text/json' } : {}),
    });
    expect(second).toMatchObject({ data: 12, headers: { 'mqtt-topic': `${root}/cellar/wine/1/temperature` } });
    expect(app.messages).toHaveLength(3);
  });

  it('reads and acknowledges by WebSockets, what a sink has published by them with TLS', async () => {
    const app = await application();
    const topic = unique('web');
    const options = await session({ topics: topic, url: broker().wsUrl ?? '' });
    const clientOptions = { ca: broker().ca ?? '' };
    const sink = new MqttSink({ url: broker().wssUrl ?? '', clientOptions, topic, protocolVersion });
    later(() => sink.close());
    const windowOf = (id: string) => ({ id, signal: new AbortController().signal }) as Window;
    const numbers = Array.from({ length: 3000 }, (_, n) => n);
    await sink.put(numbers, windowOf('w'));
    const attached = app.attach(sourceOf(options));
    await app.arrived(numbers.length);
    await attached.detach();
    // What is not acknowledged would be redelivered.
    await sink.put('last', windowOf('w2'));
    app.attach(sourceOf(options));
    await app.arrived(numbers.length + 1);
    expect(app.data()).toEqual([...numbers, 'last']);
  });

  it('keeps a payload that is not of its format, or does what is asked', async () => {
    const topic = unique('odd');
    const app = await application();
    const payloads = ['{"ok":true}', '{broken', '', Buffer.from([0xff, 0xfe])];
    const publisher = await connectTo(broker().url);
    const kept = sourceOf(await session({ topics: topic }));
    const skipped = sourceOf(await session({ topics: topic, malformed: 'skip' }));
    const replaced = sourceOf(
      await session({ topics: topic, malformed: ({ payload }: MqttMessage) => ({ bytes: payload.length }) }),
    );
    const text = sourceOf(await session({ topics: topic, format: 'string' }));
    const bytes = sourceOf(await session({ topics: topic, format: 'bytes' }));
    for (const payload of payloads) await publisher.publishAsync(topic, payload, { qos: 1 });

    const results: unknown[][] = [];
    for (const [source, count, malformed] of [
      [kept, 4, 3],
      [skipped, 1, 3],
      [replaced, 4, 3],
      [text, 4, 1],
      [bytes, 4, 0],
    ] as const) {
      app.messages.length = 0;
      const attached = app.attach(source);
      await app.arrived(count);
      // What is skipped comes behind the only one that arrives.
      await vi.waitFor(() => expect(source.counters.malformed).toBe(malformed), SOON);
      results.push(app.data().map((data) => (Buffer.isBuffer(data) ? `bytes ${data.length}` : data)));
      await attached.detach();
    }
    expect(results).toEqual([
      [{ ok: true }, '{broken', '', 'bytes 2'],
      [{ ok: true }],
      [{ ok: true }, { bytes: 7 }, { bytes: 0 }, { bytes: 2 }],
      ['{"ok":true}', '{broken', '', 'bytes 2'],
      ['bytes 11', 'bytes 7', 'bytes 0', 'bytes 2'],
    ]);
    expect(kept.counters).toEqual({ received: 4, appended: 4, malformed: 3, skipped: 0, unstorable: 0 });
    expect(skipped.counters).toEqual({ received: 4, appended: 1, malformed: 3, skipped: 3, unstorable: 0 });
    expect(text.counters).toEqual({ received: 4, appended: 4, malformed: 1, skipped: 0, unstorable: 0 });
  });

  it('gives large integers with all their digits, and does not stop at what no store can take', async () => {
    const topic = unique('hostile');
    const publisher = await connectTo(broker().url);
    const app = await application();
    const given: string[] = [];
    const source = sourceOf(
      await session({
        topics: topic,
        key: ({ data }: MqttMessage) => (data as { key?: string } | null)?.key,
        dedupeId: ({ data }: MqttMessage) => (data as { id?: string } | null)?.id,
        unstorable: async ({ payload }: MqttMessage) => void given.push(payload.toString().slice(0, 20)),
      }),
    );
    const attached = app.attach(source);
    const payloads = [
      '{"n":9007199254740993}',
      '1e400',
      '{"nul\\u0000":1}',
      `${'['.repeat(10_000)}${']'.repeat(10_000)}`,
      '{"__proto__":{"x":1}}',
      `{"id":{"a":1},"n":1}`,
      '{"id":"a\\u0000b"}',
      '{"key":5}',
      '{"n":2}',
    ];
    for (const payload of payloads) await publisher.publishAsync(topic, payload, { qos: 1 });
    await app.arrived(7);
    await vi.waitFor(() => expect(given).toHaveLength(2), SOON);
    expect(String((app.data()[0] as { n: unknown }).n)).toBe('9007199254740993');
    expect(app.data().slice(1, 3)).toEqual(['1e400', '{"nul\\u0000":1}']);
    expect(app.data()[3]).toHaveLength(20_000);
    expect(app.data().slice(5)).toEqual([{ id: 'a\0b' }, { n: 2 }]);
    expect(given).toEqual([payloads[5], payloads[7]]);
    expect(source.counters).toEqual({ received: 9, appended: 7, malformed: 3, skipped: 0, unstorable: 2 });
    expect(attached.status).toMatchObject({ state: 'running', failures: 0 });
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('no key');
      },
    ],
    ['gives a promise', () => Promise.reject(new Error('no key'))],
  ])('is not ended by a function that %s', async (_, key) => {
    const topic = unique('throwing');
    const publisher = await connectTo(broker().url);
    const app = await application();
    const source = sourceOf(await session({ topics: topic, key: key as never, unstorable: 'skip' }));
    const attached = app.attach(source);
    await publisher.publishAsync(topic, '1', { qos: 1 });
    await vi.waitFor(() => expect(source.counters.unstorable).toBe(1), SOON);
    expect(attached.status).toMatchObject({ state: 'running', failures: 0 });
  });

  it('holds back a message that the stream cannot take, and continues with the others', async () => {
    const options = await session({ topics: 'large' });
    const publisher = await connectTo(broker().url);
    const tooLarge = JSON.stringify('x'.repeat(17 * 1024 * 1024));
    for (const payload of ['1', tooLarge, '2']) await publisher.publishAsync('large', payload, { qos: 1 });

    const log = new Log();
    const app = await application(log);
    const holding = sourceOf(options);
    const attached = app.attach(holding);
    await app.arrived(2);
    expect(app.data()).toEqual([1, 2]);
    await vi.waitFor(() => expect(holding.counters).toMatchObject({ malformed: 0, skipped: 0, unstorable: 1 }), SOON);
    expect(log.lines.join('\n')).toMatch(
      /a message of 'large' \(17825794 bytes\) cannot be stored and stays with the broker/,
    );
    expect(attached.status).toMatchObject({ state: 'running', failures: 0 });
    await attached.detach();

    const given: string[] = [];
    const moving = sourceOf({ ...options, unstorable: ({ topic }: MqttMessage) => void given.push(topic) });
    const moved = app.attach(moving);
    await vi.waitFor(() => expect(given).toEqual(['large']), SOON);
    await publisher.publishAsync('large', '3', { qos: 1 });
    await app.arrived(3);
    await moved.detach();

    // It was acknowledged: it is not redelivered.
    const skipping = sourceOf({ ...options, unstorable: 'skip' });
    app.attach(skipping);
    await publisher.publishAsync('large', '4', { qos: 1 });
    await app.arrived(4);
    expect(app.data()).toEqual([1, 2, 3, 4]);
    expect(skipping.counters.unstorable).toBe(0);
  });

  it('fails when held messages take the place of all others', async () => {
    const options = await session({
      topics: 'poison',
      maxInFlight: 20,
      dedupeId: ({ data }: MqttMessage) => (data as { id: string }).id.trim(),
    });
    const publisher = await connectTo(broker().url);
    await Promise.all(Array.from({ length: 12 }, () => publisher.publishAsync('poison', 'null', { qos: 1 })));
    const app = await application();
    const { status } = await failing(app.attach(sourceOf(options)));
    expect(status.lastError).toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringMatching(
        /10 messages that can't be stored.*'poison': MqttSource: dedupeId threw: Cannot read properties of null.*Set unstorable/,
      ),
    });
  });

  it('ignores by its dedupe id what is redelivered', async () => {
    const topic = unique('ids');
    const app = await application();
    const dedupeId = ({ data }: MqttMessage) => `reading ${(data as { id: number }).id}`;
    const key = ({ topic: from }: MqttMessage) => from;
    app.attach(sourceOf(await session({ topics: topic, dedupeId, key })));
    const publisher = await connectTo(broker().url);
    for (const id of [1, 2, 1, 3]) await publisher.publishAsync(topic, JSON.stringify({ id }), { qos: 1 });
    await app.arrived(3);
    expect(app.data()).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }]);
    expect(app.messages[0]?.key).toBe(topic);
  });
});
