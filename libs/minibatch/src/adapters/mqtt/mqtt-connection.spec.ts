import { EventEmitter } from 'node:events';
import fc from 'fast-check';
import type { MqttClient } from 'mqtt';
import { describe, expect, it } from 'vitest';
import { hostileValue } from '../../../../../test/support/hostile-values.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { MqttConnection } from './mqtt-connection.js';
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
          ({ connection }) => connection,
          (error: unknown) => error,
        );
        while (client === undefined) await new Promise((resolve) => setImmediate(resolve));
        for (const [name, make] of events) {
          // A CONNACK is always an object of the client's own parser.
          client.emit(name, name === 'connect' ? {} : make());
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
});
