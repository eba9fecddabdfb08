import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { checkFilters, wrongTopic } from './topics.js';

describe('checkFilters', () => {
  it.each(['a', '/', 'a/b', '+', '#', '+/a/#', 'a/+/b', '$share/g/a/#', '$share/g/#', '$SYS/#', 'ä b/c'])(
    "takes '%s'",
    (filter) => {
      expect(checkFilters('Feed', filter)).toEqual([filter]);
    },
  );

  it('takes a list, each once', () => {
    expect(checkFilters('Feed', ['a', 'b/#', 'a'])).toEqual(['a', 'b/#']);
  });

  it.each([
    ['', /topics\[0\] is ''/],
    ['a#', /# alone in the last one/],
    ['#/a', /# alone in the last one/],
    ['a/b+', /\+ alone in its level/],
    ['a\0', /allowed: a topic filter/],
    ['$share/g', /'\$share\/<group>\/<filter>'/],
    ['$share//a', /'\$share\/<group>\/<filter>'/],
    ['$share/+/a', /'\$share\/<group>\/<filter>'/],
    ['$share/g/', /'\$share\/<group>\/<filter>'/],
    ['$share/g/#/a', /# alone in the last one/],
    ['x'.repeat(70_000), /allowed: a topic filter/],
    [5, /topics\[0\] is 5/],
    [undefined, /topics\[0\] is undefined/],
    [[], /or a list of them/],
    [['a', null], /topics\[1\] is null/],
  ])('%# refuses nonsense', (given, message) => {
    expect(() => checkFilters('Feed', given)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });
});

describe('wrongTopic', () => {
  it('finds nothing wrong with a topic', () => {
    for (const topic of ['a', 'a/b', '/', '$x', 'ä b']) expect(wrongTopic(topic)).toBeUndefined();
  });

  it.each([
    [5, /string/],
    ['', /1 to 65535 bytes/],
    ['a\0', /no NUL/],
    ['a/+', /no \+/],
    ['a/#', /no #/],
    ['ä'.repeat(40_000), /65535 bytes/],
  ])('%# says what is wrong', (topic, message) => {
    expect(wrongTopic(topic)).toMatch(message);
  });
});
