import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { type MqttSinkOptions, resolveSink } from './mqtt-sink.options.js';
import { type MqttSourceOptions, resolveSource } from './mqtt-source.options.js';
import { MqttSink } from './mqtt.sink.js';
import { MqttSource } from './mqtt.source.js';

const url = 'mqtt://user:secret@host:1883';

function refusal(message: RegExp) {
  return expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) });
}

describe('resolveSource', () => {
  const given = { url, clientId: 'feed', topics: 'a/#' } satisfies MqttSourceOptions;

  it('asks the broker for a session that stays, and for no more than fits', () => {
    expect(resolveSource('Feed', given)).toMatchObject({
      topics: ['a/#'],
      qos: 1,
      format: 'json',
      malformed: 'keep',
      unstorable: 'hold',
      maxInFlight: 2000,
      maxBytes: 16 * 1024 * 1024,
      maxHeld: 1000,
      connection: {
        address: 'mqtt://host:1883',
        protocolVersion: 5,
        options: {
          clientId: 'feed',
          clean: false,
          reconnectPeriod: 0,
          properties: { sessionExpiryInterval: 0xffff_ffff, receiveMaximum: 2000 },
        },
      },
    });
  });

  it('keeps what the client is told besides', () => {
    const clientOptions = { keepalive: 5, username: 'u', properties: { userProperties: { app: 'x' } } };
    const { options } = resolveSource('Feed', {
      ...given,
      clientOptions,
      sessionExpiry: '1h',
      maxInFlight: 7,
    }).connection;
    expect(options).toMatchObject({ keepalive: 5, username: 'u' });
    expect(options.properties).toEqual({
      userProperties: { app: 'x' },
      sessionExpiryInterval: 3600,
      receiveMaximum: 7,
    });
  });

  it('has no properties in MQTT 3.1.1', () => {
    const { connection, maxHeld } = resolveSource('Feed', { ...given, protocolVersion: 4 });
    expect(connection.options.properties).toBeUndefined();
    expect(connection.options).toMatchObject({ clean: false, clientId: 'feed', protocolVersion: 4 });
    expect(maxHeld).toBe(10);
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{ url: undefined }, /Feed: url is undefined; allowed: either url \('mqtt:\/\/host:1883'\) or createClient/],
    [{ createClient: () => undefined }, /either url/],
    [{ url: 'host:1883' }, /url is 'host:1883'; allowed: 'mqtt:/],
    [{ url: 'http://u:p@host' }, /url is 'http:\/\/host'; allowed/],
    [{ url: 5 }, /url is 5/],
    [{ url: undefined, createClient: 5 }, /createClient is 5/],
    [{ clientId: undefined }, /clientId is undefined; allowed: a name that is the same after a restart/],
    [{ clientId: '' }, /clientId is ''/],
    [{ topics: 'a#' }, /topics\[0\]/],
    [{ qos: 2 }, /qos is 2; allowed: 0, 1; with 2 a message would be lost/],
    [{ sessionExpiry: 0 }, /sessionExpiry is 0; .*would be lost/],
    [{ sessionExpiry: '1h', protocolVersion: 4 }, /MQTT 3.1.1 has no such thing/],
    [{ format: 'text' }, /format is 'text'; allowed: 'json', 'string', 'bytes'/],
    [{ malformed: 'drop' }, /malformed is 'drop'; allowed: 'keep', 'skip', or a function/],
    [{ unstorable: 'keep' }, /unstorable is 'keep'; allowed: 'hold', 'skip', 'fail', or a function/],
    [{ unstorable: 'drop' }, /unstorable is 'drop'; allowed: 'hold', 'skip', 'fail', or a function/],
    [{ largeIntegers: 'round' }, /largeIntegers is 'round'; allowed: 'bigint', 'malformed', 'number'/],
    [{ key: 'id' }, /key is 'id'; allowed: a function/],
    [{ dedupeId: true }, /dedupeId is true; allowed: a function/],
    [{ maxInFlight: 0 }, /maxInFlight is 0/],
    [{ maxInFlight: 70_000 }, /maxInFlight is 70000; allowed: a whole number of 1 to 65535/],
    [{ maxBytes: 1.5 }, /maxBytes is 1.5/],
    [{ protocolVersion: 3 }, /protocolVersion is 3; allowed: 5 \(MQTT 5\) or 4/],
    [{ clientOptions: 5 }, /clientOptions is 5/],
    [{ clientOptions: { clean: true } }, /clientOptions.clean is true; allowed: none: the adapter sets it/],
    [{ clientOptions: { clientId: 'x' } }, /clientOptions.clientId is 'x'; allowed: none: set clientId next to/],
    [{ clientOptions: { properties: { receiveMaximum: 5 } } }, /receiveMaximum is 5; .*\(maxInFlight\)/],
    [{ topic: 'a' }, /unknown option 'topic'/],
  ])('%# refuses nonsense', (options, message) => {
    expect(() => resolveSource('Feed', { ...given, ...options } as MqttSourceOptions)).toThrow(refusal(message));
  });

  it('says what a subclass has to do, and which one', () => {
    class Feed extends MqttSource {}
    expect(() => Reflect.construct(Feed, [])).toThrow(refusal(/^Feed: .*call super\(\{ url: 'mqtt:/));
  });
});

describe('resolveSink', () => {
  const given = { url, topic: 'a/b' } satisfies MqttSinkOptions;

  it('needs nothing but a place to publish to', () => {
    expect(resolveSink('Reports', given)).toMatchObject({ qos: 1, retain: false, maxInFlight: 1000 });
    expect(resolveSink('Reports', given).connection.options).toEqual({
      clean: true,
      protocolVersion: 5,
      reconnectPeriod: 0,
      properties: {},
    });
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{ topic: 'a/#' }, /Reports: topic is 'a\/#'; allowed: a topic, .*no \+ and no #/],
    [{ topic: undefined }, /topic is undefined/],
    [{ payload: 'x' }, /payload is 'x'; allowed: a function/],
    [{ qos: 3 }, /qos is 3; allowed: 0, 1, 2/],
    [{ retain: 1 }, /retain is 1/],
    [{ clientId: '' }, /clientId is ''/],
    [{ maxInFlight: 0 }, /maxInFlight is 0/],
    [{ userProperties: {} }, /userProperties is an object; allowed: a function/],
    [{ userProperties: () => ({}), protocolVersion: 4 }, /userProperties is .* MQTT 3.1.1 has no properties/],
    [{ idProperty: 'id', protocolVersion: 4 }, /idProperty is 'id'; .* MQTT 3.1.1 has no properties/],
    [{ idProperty: '' }, /idProperty is ''/],
    [{ idProperty: true }, /idProperty is true/],
    [{ clientOptions: { reconnectPeriod: 1 } }, /clientOptions.reconnectPeriod is 1/],
    [{ topics: 'a' }, /unknown option 'topics'/],
  ])('%# refuses nonsense', (options, message) => {
    expect(() => resolveSink('Reports', { ...given, ...options } as MqttSinkOptions)).toThrow(refusal(message));
  });

  it('says what a subclass has to do, and which one', () => {
    class Reports extends MqttSink {}
    expect(() => Reflect.construct(Reports, [])).toThrow(refusal(/^Reports: .*call super\(\{ url: 'mqtt:/));
  });
});
