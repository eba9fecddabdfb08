import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Window } from '../../windows/window.js';
import { type MqttSinkOptions, resolveSink } from './mqtt-sink.options.js';
import { publicationsOf } from './publications.js';

describe('publicationsOf', () => {
  const window = { id: 'w' } as Window;
  const publications = (result: unknown, options: Partial<MqttSinkOptions> = {}) =>
    publicationsOf(resolveSink('Reports', { url: 'mqtt://h', topic: 't', ...options }), result, window);

  it('makes JSON of all but strings and bytes', () => {
    const payloads = publications([{ a: 1 }, 'text', new Uint8Array([1]), null, 0, [1]]).map(({ payload }) => payload);
    expect(payloads).toEqual(['{"a":1}', 'text', Buffer.from([1]), 'null', '0', '[1]']);
  });

  it('leaves undefined out, and keeps the places of the others', () => {
    expect(publications([undefined, 1]).map(({ index }) => index)).toEqual([1]);
    expect(publications(undefined)).toEqual([]);
    expect(publications([])).toEqual([]);
    expect(publications(false)).toMatchObject([{ index: 0, payload: 'false' }]);
  });

  it('adds properties, which do not hide the id', () => {
    const userProperties = () => ({ app: 'x', 'minibatch-id': 'forged' });
    expect(publications(1, { userProperties })[0]?.userProperties).toEqual({ app: 'x', 'minibatch-id': 'w' });
  });

  it('gives an id to each element, under a name of its own if told, or none', () => {
    const properties = (options?: Partial<MqttSinkOptions>) =>
      publications([1, undefined, 2], options).map(({ userProperties }) => userProperties);
    expect(properties()).toEqual([{ 'minibatch-id': 'w:0' }, { 'minibatch-id': 'w:2' }]);
    expect(properties({ idProperty: 'id' })).toEqual([{ id: 'w:0' }, { id: 'w:2' }]);
    expect(properties({ idProperty: false })).toEqual([undefined, undefined]);
    expect(properties({ protocolVersion: 4 })).toEqual([undefined, undefined]);
  });

  it('names the element for which a function throws, or gives nonsense', () => {
    const fails = () => {
      throw new Error('no');
    };
    expect(() => publications([1], { topic: fails })).toThrow(/result 0 of window w .* topic threw: no/);
    expect(() => publications([1], { userProperties: fails })).toThrow(/userProperties threw: no/);
    expect(() => publications([() => 1])).toThrow(/payload returned undefined, and not a string/);
    expect(() => publications([1], { topic: () => 10n as never })).toThrow(/topic gave 10n/);
  });

  it('refuses what throws when it is read', () => {
    const unreadable = (target: object, key: PropertyKey) =>
      Object.defineProperty(target, key, {
        enumerable: true,
        get: () => {
          throw new Error('boom');
        },
      });
    const refused = (error: string) =>
      expect.objectContaining({
        code: ErrorCode.ResultRefused,
        message: expect.stringContaining(error) as string,
      }) as Error;
    const { proxy, revoke } = Proxy.revocable([], {});
    revoke();
    expect(() => publications([1, unreadable({}, 'key')])).toThrow(refused('result 1 of window w'));
    expect(() => publications(unreadable([1, 2], 1))).toThrow(refused('result 1 of window w'));
    expect(() => publications(proxy)).toThrow(refused('it throws when it is read'));
    const userProperties = (given: unknown) => () => given as Record<string, string>;
    expect(() => publications([1], { userProperties: userProperties(unreadable({}, 'key')) })).toThrow(
      refused('userProperties threw: boom'),
    );
    expect(() => publications([1], { userProperties: userProperties({ key: 7 }) })).toThrow(
      refused("userProperties gave 7 for 'key'"),
    );
  });
});
