import { describe, expect, it } from 'vitest';
import { messageOf } from './minibatch.error.js';

describe('messageOf', () => {
  it.each([
    [new Error('oh'), 'oh'],
    ['text', 'text'],
    [undefined, 'undefined'],
    [Object.create(null), '[object Object]'],
    [
      {
        toString() {
          throw new Error('not even that');
        },
      },
      '[object Object]',
    ],
  ])('takes anything that was thrown', (thrown, message) => {
    expect(messageOf(thrown)).toBe(message);
  });
});
