import { expect, it } from 'vitest';
import { resultId } from './result-id.js';

it('the id of a result is that of its window, with its place where there are several', () => {
  const window = { id: 'flights/default/5d1c' };
  expect(resultId(window, undefined)).toBe('flights/default/5d1c');
  expect([0, 1].map((index) => resultId(window, index))).toEqual(['flights/default/5d1c:0', 'flights/default/5d1c:1']);
});
