import { connect, type IClientOptions } from 'mqtt';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, SOON, STOP_LIMIT } from '../e2e/support/applications.js';
import { application, connectTo, LONG, sourcesOf, unique, useBroker } from './support/mqtt.js';

afterEach(closeAll);

const broker = useBroker();

describe.each([5, 4] as const)('MqttSource: sessions, protocol version %i', { timeout: 90_000 }, (protocolVersion) => {
  const { sourceOf, session } = sourcesOf(broker, protocolVersion);

  it('gets what came while it was away, and acknowledges it after the append', async () => {
    const options = await session({ topics: 'away/#' });
    const publisher = await connectTo(broker().url);
    const count = 3000;
    await Promise.all(
      Array.from({ length: count }, (_, n) => publisher.publishAsync('away/x', JSON.stringify({ n }), { qos: 1 })),
    );

    // An append that never answers: nothing is acknowledged, whatever the broker sends.
    const calls: number[] = [];
    const stuck = {
      name: 'stuck',
      append: () => new Promise<void>(() => undefined),
      appendMany: (data: readonly unknown[]) => {
        if (data.length > 0) calls.push(data.length);
        return data.length > 0 ? new Promise<void>(() => undefined) : Promise.resolve();
      },
      position: () => Promise.resolve(undefined),
    };
    const stop = new AbortController();
    const feed = sourceOf(options).stream(stuck, stop.signal);
    await vi.waitFor(() => expect(calls).toHaveLength(1), SOON);
    const began = performance.now();
    stop.abort();
    await feed;
    expect(performance.now() - began).toBeLessThan(STOP_LIMIT);

    const app = await application();
    app.attach(sourceOf(options));
    await app.arrived(count);
    expect(app.data().map((data) => (data as { n: number }).n)).toEqual(Array.from({ length: count }, (_, n) => n));
    expect(app.messages[0]?.headers).toMatchObject({ 'mqtt-dup': 'true' });
  });

  /** A target whose appends wait until they are let go, and a client that is watched. */
  function watched() {
    let release = (): void => undefined;
    const open = new Promise<void>((resolve) => (release = resolve));
    const seen = { messages: 0, pings: 0, stored: [] as unknown[] };
    const appendMany = async (data: readonly unknown[]) => {
      if (data.length > 0) await open;
      seen.stored.push(...data);
    };
    const append = (data: unknown) => appendMany([data]);
    const target = { name: 'slow', append, appendMany, position: () => Promise.resolve(undefined) };
    const createClient = (given: IClientOptions) => {
      const client = connect(broker().url, given);
      client.on('message', () => (seen.messages += 1));
      client.on('packetreceive', ({ cmd }) => (seen.pings += cmd === 'pingresp' ? 1 : 0));
      return client;
    };
    return { target, seen, release, connection: { url: undefined, createClient } as unknown as { url: string } };
  }

  it('takes messages and answers pings while an append is in flight', async () => {
    const options = await session({ topics: 'pings' });
    const { target, seen, release, connection } = watched();
    const stop = new AbortController();
    const feed = sourceOf({ ...options, ...connection, clientOptions: { keepalive: 3 } }).stream(target, stop.signal);
    const publisher = await connectTo(broker().url);
    for (const n of [1, 2, 3]) await publisher.publishAsync('pings', String(n), { qos: 1 });
    await vi.waitFor(() => expect(seen.messages).toBe(3), SOON);
    await vi.waitFor(() => expect(seen.pings).toBeGreaterThanOrEqual(2), SOON);
    expect(seen.stored).toEqual([]);
    release();
    await vi.waitFor(() => expect(seen.stored).toEqual([1, 2, 3]), SOON);
    stop.abort();
    await feed;
  });

  it('reads no more than fits into memory, until it is stored', async () => {
    const options = await session({ topics: 'full', format: 'string', maxBytes: 10_000 });
    const publisher = await connectTo(broker().url);
    const payloads = Array.from({ length: 50 }, (_, n) => String(n).padEnd(1000, '.'));
    for (const payload of payloads) await publisher.publishAsync('full', payload, { qos: 1 });
    const { target, seen, release, connection } = watched();
    const stop = new AbortController();
    const feed = sourceOf({ ...options, ...connection }).stream(target, stop.signal);
    await vi.waitFor(() => expect(seen.messages).toBe(10), SOON);
    // The broker has had the time to send what it would.
    for (let turn = 0; turn < 20; turn += 1) await publisher.publishAsync('elsewhere', '', { qos: 1 });
    expect(seen.messages).toBe(10);
    release();
    await vi.waitFor(() => expect(seen.stored).toEqual(payloads), SOON);
    stop.abort();
    await feed;
  });

  it('spreads a shared subscription over two sources', async () => {
    const topics = `$share/workers/${unique('jobs')}/#`;
    const topic = topics.replace('$share/workers/', '').replace('#', '1');
    const [one, other] = [await application(), await application()];
    one.attach(sourceOf(await session({ topics })));
    other.attach(sourceOf(await session({ topics })));
    const publisher = await connectTo(broker().url);
    const numbers = Array.from({ length: 1000 }, (_, n) => n);
    for (const n of numbers) await publisher.publishAsync(topic, String(n), { qos: 1 });
    await vi.waitFor(() => expect(one.messages.length + other.messages.length).toBe(1000), LONG);
    expect([...one.data(), ...other.data()].toSorted((a, b) => Number(a) - Number(b))).toEqual(numbers);
    expect(one.messages.length).toBeGreaterThan(100);
    expect(other.messages.length).toBeGreaterThan(100);
  });

  it('unsubscribes topics that it no longer has', async () => {
    const [old, kept] = [unique('old'), unique('kept')];
    const app = await application();
    const clientId = unique('client');
    const publisher = await connectTo(broker().url);
    const attach = (topics: readonly string[]) => app.attach(sourceOf({ clientId, topics }), 'sensors');
    const first = attach([old, kept]);
    await vi.waitFor(async () => {
      await publisher.publishAsync(kept, '"probe"', { qos: 1 });
      expect(app.data()).toContain('probe');
    }, SOON);
    await first.detach();
    const second = attach([kept]);
    app.messages.length = 0;
    await vi.waitFor(async () => {
      await publisher.publishAsync(kept, '"again"', { qos: 1 });
      expect(app.data()).toContain('again');
    }, SOON);
    await publisher.publishAsync(old, '"unwanted"', { qos: 1 });
    await publisher.publishAsync(kept, '"last"', { qos: 1 });
    await vi.waitFor(() => expect(app.data()).toContain('last'), SOON);
    expect(app.data()).not.toContain('unwanted');
    await second.detach();
  });

  it('resumes where it was stopped in the middle, and loses nothing', async () => {
    const options = await session({ topics: 'middle' });
    const app = await application();
    const publisher = await connectTo(broker().url);
    let [published, stops] = [0, 0];
    // All the time, so that there is a middle however fast it reads.
    const publishing = (async () => {
      while (stops < 3) {
        const block = Array.from({ length: 100 }, () => String(published++));
        await Promise.all(block.map((text) => publisher.publishAsync('middle', text, { qos: 1 })));
      }
    })();
    for (const most of [500, 1500, 3000]) {
      const attached = app.attach(sourceOf(options));
      await vi.waitFor(() => expect(attached.status.appended).toBeGreaterThan(0), LONG);
      await vi.waitFor(() => expect(app.messages.length).toBeGreaterThan(most), LONG);
      await attached.detach();
      stops += 1;
    }
    app.attach(sourceOf(options));
    await publishing;
    await vi.waitFor(() => expect(new Set(app.data()).size).toBe(published), LONG);
    expect(stops).toBe(3);
  });
});
