import { describe, expect, it } from 'vitest';
import { checkKeys } from './checks.js';
import { didYouMean } from './did-you-mean.js';

describe('didYouMean', () => {
  it.each([
    ['widow', ['size', 'windows', 'interval'], 'windows'],
    ['dedupeID', ['key', 'headers', 'dedupeId'], 'dedupeId'],
    ['topic', ['topics', 'connection'], 'topics'],
    ['sise', ['size', 'interval'], 'size'],
    ['gruop', ['ids', 'group'], 'group'],
    ['Interval', ['interval'], 'interval'],
    ['mapp', ['maps', 'map'], 'maps'],
  ])('finds what %s was meant to be', (given, words, meant) => {
    expect(didYouMean(given, words)).toBe(meant);
  });

  it.each([
    ['after', ['state', 'group']],
    ['ids', ['key', 'to']],
    ['', ['size', 'interval']],
    ['anything', []],
    ['x'.repeat(1_000_000), ['x'.repeat(61)]],
  ])('guesses nothing that is far off (%#)', (given, words) => {
    expect(didYouMean(given, words)).toBeUndefined();
  });
});

describe('checkKeys', () => {
  const messageOf = (given: unknown) => {
    try {
      checkKeys('@Streaming', given, ['windows', 'group']);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  };

  it('names the option that was probably meant, and those there are', () => {
    expect(messageOf({ group: 'g', widow: 1 })).toBe(
      "@Streaming: unknown option 'widow'; did you mean 'windows'? Allowed: windows, group [MINIBATCH_INVALID_OPTIONS]",
    );
    expect(messageOf({ size: 1 })).toBe(
      "@Streaming: unknown option 'size'; allowed: windows, group [MINIBATCH_INVALID_OPTIONS]",
    );
    expect(messageOf({ group: 'g' })).toBeUndefined();
  });
});
