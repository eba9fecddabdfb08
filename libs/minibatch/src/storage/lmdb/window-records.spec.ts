import { BSON } from 'bson';
import { describe, expect, it } from 'vitest';
import { formatId } from './keys.js';
import { decodeWindow, encodeWindow } from './records.js';

describe('window records', () => {
  const window = {
    seq: 1,
    id: 's/default/1',
    messageIds: [formatId(1, 1), formatId(1, 2), formatId(1, 4)],
    created: new Date(0),
    attempt: 5,
    recoveries: 0,
  };

  it('keep where a window stands that is taken apart and set aside', () => {
    const split = { pending: [{ from: 0, to: 1 }], alone: [], again: [{ from: 2, to: 3 }], last: true };
    const apart = { ...window, split, aside: new Date(1) };
    expect(decodeWindow(1, encodeWindow(1, apart), 4)).toEqual(apart);
  });

  it('begin anew where an earlier version has taken a window apart', () => {
    const split = { pending: [{ from: 0, to: 2, failures: 1 }], failed: [{ index: 2, error: 'boom' }] };
    const stored = BSON.deserialize(encodeWindow(1, window), { promoteBuffers: true });
    expect(decodeWindow(1, Buffer.from(BSON.serialize({ ...stored, split })), 4)).toEqual(window);
  });
});
