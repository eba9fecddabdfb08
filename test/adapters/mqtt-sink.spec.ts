import { Module } from '@nestjs/common';
import type { IPublishPacket } from 'mqtt';
import {
  ErrorCode,
  memoryStore,
  MinibatchModule,
  StatusService,
  Streaming,
  StreamService,
  Window,
} from 'nestjs-minibatch';
import { type MqttMessage, MqttSink, type MqttSinkOptions, MqttSource } from 'nestjs-minibatch/mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type MosquittoServer, startMosquitto } from '../../scripts/servers/mosquitto/mosquitto.mjs';
import { closeAll, later, SOON, start } from '../e2e/support/applications.js';
import { application, connectTo, LONG, unique } from './support/mqtt.js';

interface Published {
  readonly topic: string;
  readonly payload: string;
  readonly packet: IPublishPacket;
}

describe.each([5, 4] as const)('MqttSink, protocol version %i', { timeout: 90_000 }, (protocolVersion) => {
  let broker: MosquittoServer;
  beforeAll(async () => {
    broker = await startMosquitto({ tls: true });
    console.log(`MQTT broker for tests: ${broker.label}`);
  });
  afterAll(() => broker.stop());
  afterEach(closeAll);

  function sinkOf<R = unknown>(options: Partial<MqttSinkOptions<R>>): MqttSink<R> {
    const sink = new MqttSink<R>({
      url: broker.url,
      topic: 'unused',
      protocolVersion,
      ...options,
    } as MqttSinkOptions<R>);
    later(() => sink.close());
    return sink;
  }

  const windowOf = (id: string, signal = new AbortController().signal) => ({ id, signal }) as Window;

  /** What is published under a topic from now on. */
  async function listen(filter: string, url = broker.url) {
    const client = await connectTo(url);
    const published: Published[] = [];
    client.on('message', (topic, payload, packet) => published.push({ topic, payload: payload.toString(), packet }));
    await client.subscribeAsync(filter, { qos: 1 });
    return published;
  }

  it('connects again for a result that comes after it was closed', async () => {
    const topic = unique('closed');
    const published = await listen(topic);
    const sink = sinkOf<number>({ topic });
    await sink.put(1, windowOf('w1'));
    await sink.close();
    await sink.put(2, windowOf('w2'));
    await vi.waitFor(() => expect(published.map(({ payload }) => payload)).toEqual(['1', '2']), SOON);
  });

  it('publishes each element and resolves when the broker has acknowledged', async () => {
    const root = unique('reports');
    const published = await listen(`${root}/#`);
    const sink = sinkOf<{ origin: string; n?: number } | string | undefined>({
      topic: (report, window) => `${root}/${typeof report === 'object' ? report.origin : 'text'}/${window.id}`,
    });
    await sink.put([{ origin: 'SAT', n: 1 }, undefined, 'plain', { origin: 'DFW' }], windowOf('w1'));
    await sink.put({ origin: 'JFK' }, windowOf('w2'));
    await sink.put([], windowOf('w3'));
    await sink.put(undefined, windowOf('w4'));
    await vi.waitFor(() => expect(published).toHaveLength(4), SOON);
    expect(published.map(({ topic, payload }) => [topic.slice(root.length + 1), payload])).toEqual([
      ['SAT/w1', '{"origin":"SAT","n":1}'],
      ['text/w1', 'plain'],
      ['DFW/w1', '{"origin":"DFW"}'],
      ['JFK/w2', '{"origin":"JFK"}'],
    ]);
    expect(published.every(({ packet }) => packet.qos === 1 && !packet.retain)).toBe(true);
    const ids = published.map(({ packet }) => packet.properties?.userProperties?.['minibatch-id']);
    expect(ids).toEqual(protocolVersion === 5 ? ['w1:0', 'w1:2', 'w1:3', 'w2'] : Array(4).fill(undefined));
  });

  it('gives what is sent again the same id, by which a source leaves it out', async () => {
    const topic = unique('again');
    const app = await application();
    const dedupeId = ({ properties }: MqttMessage) => properties.userProperties?.['minibatch-id']?.toString();
    const source = new MqttSource({ url: broker.url, clientId: unique('c'), topics: topic, protocolVersion, dedupeId });
    app.attach(source);
    await vi.waitFor(async () => {
      await sinkOf({ topic }).put('subscribed', windowOf('probe'));
      expect(app.data()).toContain('subscribed');
    }, SOON);
    const sink = sinkOf({ topic });
    for (let tries = 0; tries < 2; tries += 1) await sink.put([1, 2, 3], windowOf('w'));
    await sink.put('last', windowOf('w2'));
    await vi.waitFor(() => expect(app.data()).toContain('last'), SOON);
    const once = [1, 2, 3];
    const data = app.data().filter((each) => each !== 'subscribed');
    // MQTT 3.1.1 has no place for it.
    expect(data).toEqual(protocolVersion === 5 ? [...once, 'last'] : [...once, ...once, 'last']);
  });

  it('keeps the last for new subscribers, in the payload that it is told, with QoS 0 and 2 too', async () => {
    const topic = unique('last');
    const payload = (n: number) => Buffer.from([n, 0xff]);
    for (const [n, qos] of [[1, 0] as const, [2, 2] as const]) {
      await sinkOf<number>({ topic, retain: true, payload, qos }).put(n, windowOf('w'));
    }
    const client = await connectTo(broker.url);
    const kept: [Buffer, boolean][] = [];
    client.on('message', (_, bytes, packet) => kept.push([bytes, packet.retain]));
    await client.subscribeAsync(topic, { qos: 2 });
    await vi.waitFor(() => expect(kept).toEqual([[Buffer.from([2, 0xff]), true]]), SOON);
  });

  it('takes the result of a consumer, thousands of messages in order, by TLS', async () => {
    const topic = unique('many');
    const published = await listen(topic);
    const options = { url: broker.tlsUrl ?? '', clientOptions: { ca: broker.ca ?? '' }, topic, protocolVersion };
    class Numbers extends MqttSink<number> {
      constructor() {
        super(options);
      }
    }
    class Doubler {
      @Streaming('numbers', { size: 1000, sink: Numbers })
      double({ data }: Window<number>) {
        return data.map((n) => 2 * n);
      }
    }
    @Module({
      imports: [MinibatchModule.forRoot({ store: memoryStore() })],
      providers: [Numbers, Doubler],
    })
    class App {}
    const app = await start({ imports: [App] });
    const numbers = Array.from({ length: 5000 }, (_, n) => n);
    await app.get(StreamService).stream<number>('numbers').appendMany(numbers);
    await vi.waitFor(() => expect(published).toHaveLength(5000), LONG);
    expect(published.map(({ payload }) => Number(payload))).toEqual(numbers.map((n) => 2 * n));
    const sink = app.get(Numbers);
    await app.close();
    await expect(sink.put([1], windowOf('late'))).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
  });

  it('gives up when the signal aborts: while it connects, and while the broker is silent', async () => {
    const deaf = await startMosquitto();
    later(() => deaf.stop());
    const sink = sinkOf({ url: deaf.url, topic: 'x' });
    await sink.put([1], windowOf('w0'));
    process.kill(deaf.pid ?? 0, 'SIGSTOP');
    try {
      const stop = new AbortController();
      const silent = sink.put([1, 2, 3], windowOf('w1', stop.signal));
      const unconnected = sinkOf({ url: deaf.url, topic: 'x' }).put([1], windowOf('w2', stop.signal));
      const states = ['pending', 'pending'];
      for (const [index, put] of [silent, unconnected].entries()) put.catch(() => (states[index] = 'rejected'));
      // Both have something on its way by now, and no answer.
      await new Promise((resolve) => setImmediate(resolve));
      expect(states).toEqual(['pending', 'pending']);
      stop.abort();
      for (const put of [silent, unconnected]) {
        await expect(put).rejects.toMatchObject({ code: ErrorCode.SinkFailed, details: { reason: 'ABORTED' } });
      }
    } finally {
      process.kill(deaf.pid ?? 0, 'SIGCONT');
    }
    // Nothing of it stands in the way of what comes later.
    await sink.put([4], windowOf('w3'));
  });

  it('fails while the broker is down, and gets through when it is back', async () => {
    const late = await startMosquitto();
    later(() => late.stop());
    await late.kill9();
    const topic = unique('late');
    class Reports extends MqttSink {
      constructor() {
        super({ url: late.url, topic, protocolVersion });
      }
    }
    class Reporter {
      @Streaming('rows', { size: 1, sink: Reports, retry: { backoff: 20, maxBackoff: 200 } })
      report({ data }: Window) {
        return data;
      }
    }
    const imports = [MinibatchModule.forRoot({ store: memoryStore() })];
    const app = await start({ imports, providers: [Reports, Reporter] });
    await app.get(StreamService).append('rows', { n: 1 });
    const consumer = async () => (await app.get(StatusService).snapshot()).streams[0]?.consumers[0]?.local;
    await vi.waitFor(async () => {
      expect((await consumer())?.lastError).toMatchObject({
        code: ErrorCode.SinkFailed,
        message: expect.stringMatching(/Reports: cannot connect to mqtt:.*ECONNREFUSED/),
      });
    }, SOON);
    await late.restart();
    await vi.waitFor(async () => expect((await app.get(StreamService).stream('rows').stats()).buffered).toBe(0), LONG);
  });

  it('says that the credentials are wrong', async () => {
    const closed = await startMosquitto({ users: { writer: 'secret' } });
    later(() => closed.stop());
    const wrong = { url: closed.url, topic: 'x', clientOptions: { username: 'writer', password: 'wrong' } };
    await expect(sinkOf(wrong).put(1, windowOf('w'))).rejects.toMatchObject({
      code: ErrorCode.SinkFailed,
      message: expect.stringMatching(/rejected the connection.*Check user and password/),
      details: { reason: 'UNAUTHORIZED', reasonCode: protocolVersion === 5 ? 135 : 5 },
    });
    await sinkOf({ url: closed.url.replace('//', '//writer:secret@'), topic: 'x' }).put(1, windowOf('w'));
  });

  it('sends only what was not acknowledged when a result is tried again', async () => {
    const strict = await startMosquitto({ forbidden: ['forbidden/#'], config: ['max_packet_size 2000'] });
    later(() => strict.stop());
    const published = await listen('#', strict.url);
    const sink = sinkOf<string>({ url: strict.url, topic: 'open/x' });
    const large = 'x'.repeat(3000);
    const window = windowOf('w');
    const result = ['a', large, 'b'];
    if (protocolVersion === 5) {
      // Only in MQTT 5 a broker says what is too large for it; otherwise it ends the connection.
      await expect(sink.put(result, window)).rejects.toMatchObject({
        code: ErrorCode.MessageTooLarge,
        details: { window: 'w', written: 2, failed: [{ index: 1, message: expect.stringContaining("to 'open/x': ") }] },
      });
      result[1] = 'c';
      await sink.put(result, window);
      await vi.waitFor(() => expect(published.map(({ payload }) => payload)).toEqual(['a', 'b', 'c']), SOON);

      const refused = sinkOf<string>({ url: strict.url, topic: 'forbidden/x' });
      await expect(refused.put('a', window)).rejects.toMatchObject({
        code: ErrorCode.SinkFailed,
        message: expect.stringMatching(
          /1 of 1 results of window .* were not published; result 0 to 'forbidden\/x': .*ot authorized/,
        ),
        details: {
          reason: 'NOT_WRITTEN',
          failed: [{ index: 0, code: 135, message: expect.stringContaining('forbidden/x') }],
        },
      });
    } else {
      await expect(sink.put([large], window)).rejects.toMatchObject({
        code: ErrorCode.SinkFailed,
        details: { reason: 'LOST' },
      });
      await sink.put('next', window);
    }
  });

  it.each<[string, Partial<MqttSinkOptions>]>([
    ['topic gave 5: it must be a string', { topic: (result) => (result === 1 ? 'good' : (5 as never)) }],
    [`topic gave 'a/#': it must have no + and no #`, { topic: (result) => (result === 1 ? 'good' : 'a/#') }],
    [`topic gave '': it must have 1 to`, { topic: (result) => (result === 1 ? 'good' : '') }],
    ['payload returned number, and not a string', { payload: (result) => (result === 1 ? '1' : (5 as never)) }],
    ['payload threw: it contains itself: JSON has no cycles', {}],
  ])('sends nothing of a window that has an element it can not send: %s', async (message, options) => {
    const topic = unique('bad');
    const published = await listen(topic);
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    const put = sinkOf({ topic, ...options }).put([1, cycle], windowOf('w'));
    await expect(put).rejects.toMatchObject({
      code: ErrorCode.ResultRefused,
      message: expect.stringContaining(`result 1 of window w cannot be published: ${message}`),
      details: { reason: 'UNENCODABLE', window: 'w', index: 1 },
    });
    await sinkOf({ topic }).put('after', windowOf('w'));
    await vi.waitFor(() => expect(published.map(({ payload }) => payload)).toEqual(['after']), SOON);
  });
});
