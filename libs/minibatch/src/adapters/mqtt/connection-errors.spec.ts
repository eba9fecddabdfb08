import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { connectionLost, notConnected } from './connection-errors.js';

const place = {
  where: 'Feed',
  code: ErrorCode.SourceFailed,
  address: 'mqtt://host:1883',
  options: { clientId: 'feed' },
} as const;

const refusal = (code: number) => Object.assign(new Error('Connection refused: x'), { code });

describe('what is said of a connection', () => {
  it.each([
    [1, 'REFUSED', /protocolVersion: 4/],
    [132, 'REFUSED', /protocolVersion: 4/],
    [133, 'REFUSED', /The broker rejected the clientId/],
    [4, 'UNAUTHORIZED', /Check user and password/],
    [135, 'UNAUTHORIZED', /Check user and password/],
    [136, 'REFUSED', /\(136\) \[/],
  ])('rejected with reason code %i', (reasonCode, reason, hint) => {
    expect(notConnected(place, refusal(reasonCode))).toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringMatching(hint),
      details: { reason, reasonCode },
    });
  });

  it('unreachable, at each of its addresses', () => {
    const error = new AggregateError([
      new Error('connect ECONNREFUSED ::1'),
      new Error('connect ECONNREFUSED 127.0.0.1'),
    ]);
    expect(notConnected(place, error)).toMatchObject({
      message: expect.stringContaining(
        'cannot connect to mqtt://host:1883: connect ECONNREFUSED ::1; connect ECONNREF',
      ),
      details: { reason: 'UNREACHABLE' },
    });
  });

  it('lost: because another client took its place, for an error, without a word', () => {
    expect(connectionLost(place, undefined, 142).message).toMatch(
      /reason 142\. Another client has connected with the same/,
    );
    expect(connectionLost(place, new Error('Keepalive timeout'), undefined).message).toMatch(
      /was lost: Keepalive timeout/,
    );
    expect(connectionLost(place, undefined, undefined).message).toMatch(/another process uses the same clientId/);
    expect(connectionLost({ ...place, options: {} }, undefined, undefined).message).toMatch(/was lost \[/);
  });
});
