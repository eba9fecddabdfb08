import type { Message } from 'nestjs-minibatch';
import { memoryStore, MinibatchModule, StreamService, Streaming, Window } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { MqttSink, MqttSource } from 'nestjs-minibatch/mqtt';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { startMosquitto } from '../../scripts/servers/mosquitto/mosquitto.mjs';
import { closeAll, later, SOON, start } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository, temporaryFolder } from '../support/workspace.js';
import { application, connectTo, LONG, publishAll, unique } from './support/mqtt.js';

const COUNT = 20_000;
/** Other tests may want the machine too. */
const LONGER = { timeout: 180_000, interval: 100 } as const;
const payloads = Array.from({ length: COUNT }, (_, n) => JSON.stringify({ n, text: 'x'.repeat(180) }));
const numberOf = (data: unknown) => (data as { n: number }).n;

/** It writes its state each time it has answered: the more goes together, the less often. */
const FAST = ['max_inflight_messages 1000'];

/** The numbers from 0 to COUNT - 1 that are not there. */
function missing(numbers: readonly number[]): readonly number[] {
  const seen = new Set(numbers);
  return payloads.flatMap((_, n) => (seen.has(n) ? [] : [n]));
}

describe('a broker that is killed and started again', { timeout: 240_000 }, () => {
  afterEach(async () => {
    await endProcesses();
    await closeAll();
  });

  it.each([5, 4] as const)(
    'loses nothing of %#: 20,000 messages into a stream, protocol version %i',
    async (protocolVersion) => {
      const broker = await startMosquitto({ durable: true, config: FAST });
      later(() => broker.stop());
      const app = await application();
      const clientId = unique('feed');
      const attached = app.attach(new MqttSource({ url: broker.url, clientId, topics: 'readings/#', protocolVersion }));
      const publisher = await connectTo(broker.url);
      await vi.waitFor(async () => {
        await publisher.publishAsync('readings/probe', '"probe"', { qos: 1 });
        expect(app.data()).toContain('probe');
      }, SOON);

      const kills = [5000, 10_000, 15_000];
      let restarts = Promise.resolve();
      await publishAll(broker, 'readings/x', payloads, (sure) => {
        if (sure < (kills[0] ?? COUNT)) return;
        kills.shift();
        restarts = restarts.then(() => broker.kill9()).then(() => broker.restart());
      });
      await restarts;
      const numbers = () => app.data().flatMap((data) => (data === 'probe' ? [] : [numberOf(data)]));
      await vi.waitFor(() => expect(missing(numbers())).toHaveLength(0), LONGER);
      expect(kills).toEqual([]);
      expect(attached.status.failures).toBeGreaterThanOrEqual(3);
      console.log(`protocol version ${protocolVersion}: ${numbers().length - COUNT} of ${COUNT} came twice`);
    },
  );

  it('loses nothing of 20,000 messages out of a stream, killed in the middle of a put', async () => {
    const broker = await startMosquitto({ durable: true, config: FAST });
    later(() => broker.stop());
    const received: number[] = [];
    // A subscriber whose session survives the broker: what is in it then was really taken.
    const subscriber = await connectTo(broker.url, {
      clientId: 'subscriber',
      clean: false,
      properties: { sessionExpiryInterval: 3600, receiveMaximum: 1000 },
    });
    subscriber.on('message', (_, payload) => received.push(numberOf(JSON.parse(payload.toString()))));
    await subscriber.subscribeAsync('results', { qos: 1 });

    const kills = [5, 10, 15];
    let restarts: Promise<unknown> = Promise.resolve();
    class Results extends MqttSink {
      constructor() {
        super({ url: broker.url, topic: 'results', payload: (text) => text as string });
      }
    }
    class Handler {
      private windows = 0;
      /** What the earlier windows published is on disk when something that is sent later is acknowledged. */
      @Streaming('rows', { size: 1000, sink: Results, retry: { backoff: 20, maxBackoff: 200 } })
      async handle({ data }: Window<string>) {
        this.windows += 1;
        if (this.windows === kills[0]) {
          kills.shift();
          await subscriber.publishAsync('fence', '', { qos: 1 });
          // From now on it takes what is sent and answers nothing, until it is dead.
          const { pid } = broker;
          if (pid !== undefined) process.kill(pid, 'SIGSTOP');
          restarts = restarts
            .then(() => vi.waitUntil(() => results.putting > 0, SOON))
            .then(() => broker.kill9())
            .then(() => broker.restart());
        }
        return data;
      }
    }
    const results = { putting: 0, failures: 0 };
    const put = MqttSink.prototype.put;
    Results.prototype.put = async function (this: Results, ...args: Parameters<typeof put>) {
      results.putting += 1;
      try {
        await put.apply(this, args);
      } catch (error) {
        results.failures += 1;
        throw error;
      } finally {
        results.putting -= 1;
      }
    };
    const imports = [MinibatchModule.forRoot({ store: memoryStore() })];
    const app = await start({ imports, providers: [Results, Handler] });
    await app.get(StreamService).stream<string>('rows').appendMany(payloads);
    await vi.waitFor(() => expect(missing(received)).toHaveLength(0), LONGER);
    await restarts;
    expect(kills).toEqual([]);
    expect(results.failures).toBeGreaterThanOrEqual(3);
    console.log(`${received.length - COUNT} of ${COUNT} came twice`);
  });
});

describe('a process that is killed', { timeout: 120_000 }, () => {
  afterEach(async () => {
    await endProcesses();
    await closeAll();
  });

  it('gets again what it has appended and not acknowledged, and nothing is lost', async () => {
    const broker = await startMosquitto();
    later(() => broker.stop());
    const folder = await temporaryFolder();
    later(() => folder.dispose());
    const publisher = await connectTo(broker.url);
    const settings = { url: broker.url, clientId: 'feed', topic: 'readings', path: folder.path };
    const feed = (dieAt?: number) =>
      new NodeProcess(repository('test/fixtures/mqtt/feed.mjs'), [JSON.stringify({ ...settings, dieAt })]);

    // Subscribed is who has stored the topics, which counts as a write of nothing.
    const first = feed();
    await first.line(/^stored 0$/);
    await first.kill();
    const count = 3000;
    await Promise.all(
      payloads.slice(0, count).map((payload) => publisher.publishAsync('readings', payload, { qos: 1 })),
    );
    for (const dieAt of [1, 500, 500]) await expect(feed(dieAt).ended).resolves.toMatchObject({ signal: 'SIGKILL' });
    const last = feed();
    await publisher.publishAsync('readings', JSON.stringify({ n: -1 }), { qos: 1 });
    await last.line(/^stored [1-9]/);

    const messages: Message[] = [];
    class Reader {
      @Streaming('readings', { size: 10_000, interval: 50 })
      read(window: Window) {
        messages.push(...window.messages);
      }
    }
    const imports = [MinibatchModule.forRoot({ store: lmdbStore({ path: folder.path }) })];
    await start({ imports, providers: [Reader] });
    const numbers = () => messages.map(({ data }) => numberOf(data));
    await vi.waitFor(() => expect(numbers()).toContain(-1), LONG);
    await last.kill();
    expect(payloads.slice(0, count).filter((_, n) => !numbers().includes(n))).toEqual([]);
    const twice = numbers().length - new Set(numbers()).size;
    expect(twice).toBeGreaterThan(0);
    const again = messages.filter(({ headers }) => headers?.['mqtt-dup'] === 'true');
    expect(again.length).toBeGreaterThanOrEqual(twice);
  });
});
