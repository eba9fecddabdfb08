import { expect, it } from 'vitest';
import type { WindowRequest } from './stream-store.interface.js';
import { changedRequests } from './window-requests.js';

const base: WindowRequest = { group: 'default', window: 'w1', action: 'skip', sink: 'mail' };

it.each([
  { ...base, group: 'other' },
  { ...base, window: 'w2' },
  { ...base, action: 'giveUp' as const },
  { ...base, sink: 'report' },
])('requests for open windows that differ are kept apart: %o', (other) => {
  const both = changedRequests(changedRequests(undefined, { request: base }), { request: other });
  expect(both).toEqual([base, other]);
  expect(changedRequests(both, { answered: { ...base } })).toEqual([other]);
  expect(changedRequests(both, { request: { ...base } })).toEqual([other, base]);
  expect(changedRequests(both, { paused: true })).toEqual(both);
});

it('a change that asks for nothing leaves a stream without requests', () => {
  expect(changedRequests(undefined, {})).toEqual([]);
});
