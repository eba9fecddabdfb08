import { EventEmitter } from 'node:events';
import fc from 'fast-check';
import type { MqttClient } from 'mqtt';
import { describe, expect, it } from 'vitest';
import { hostileValue } from '../../../../../test/support/hostile-values.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { MqttConnection } from './mqtt-connection.js';
import { resolveSink } from './mqtt-sink.options.js';
import { Publisher } from './publisher.js';
import { resolveConnection } from './mqtt-connection.options.js';

class FakeClient extends EventEmitter {
  readonly connected = false;
  readonly outgoing = {};
  readonly stream = { destroy: () => undefined };

  constructor(readonly options: object) {
    super();
  }

  end(_force: boolean, done?: () => void): void {
    done?.();
  }
}

const event = fc.tuple(fc.constantFrom('connect', 'disconnect', 'error', 'close'), hostileValue);

describe('a connection to a broker', () => {
  it('lets no throw out of its callbacks, whatever the client calls them with', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 6 }), async (events) => {
        let client: FakeClient | undefined;
        const createClient = (options: object) => (client = new FakeClient(options)) as unknown as MqttClient;
        const settings = resolveConnection('MqttSource', ErrorCode.SourceFailed, { createClient }, {});
        const opening = MqttConnection.open(settings, new AbortController().signal, (made) => made).then(
          ({ connection, sessionPresent }) => {
            expect(typeof sessionPresent).toBe('boolean');
            return connection;
          },
          (error: unknown) => error,
        );
        while (client === undefined) await new Promise((resolve) => setImmediate(resolve));
        for (const [name, make] of events) {
          client.emit(name, make());
          await Promise.resolve();
        }
        client.emit('close');
        const opened = await opening;
        const failure = opened instanceof MqttConnection ? opened.failure : opened;
        expect(failure).toBeInstanceOf(MinibatchError);
        expect((failure as MinibatchError).code).toBe(ErrorCode.SourceFailed);
      }),
    );
  });

  it('publishes through a broker whose CONNACK makes no sense', () => {
    fc.assert(
      fc.property(hostileValue, hostileValue, (makeProperties, makeMaximum) => {
        const properties = makeProperties();
        const given =
          typeof properties === 'object'
            ? { receiveMaximum: makeMaximum(), maximumPacketSize: makeMaximum() }
            : properties;
        for (const serverProperties of [properties, given]) {
          const published: string[] = [];
          const client = { serverProperties, publish: (topic: string) => void published.push(topic) };
          const connection = { client, failure: undefined, during: () => Promise.resolve() };
          const sink = resolveSink('Sink', { url: 'mqtt://h', topic: 't' });
          const publisher = new Publisher(connection as unknown as MqttConnection, sink);
          const publication = { index: 0, topic: 't', payload: '1', userProperties: undefined };
          void publisher.publish([publication], { id: 'w', signal: new AbortController().signal }, () => undefined);
          expect(published).toEqual(['t']);
        }
      }),
    );
  });
});
