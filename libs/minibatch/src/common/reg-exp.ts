import type { BSONRegExp } from 'bson';

/**
 * A regular expression of BSON as one of JavaScript; as it is, with its flags, where JavaScript has none that means the same. The driver
 * writes JavaScript's flag `g` as `s`, and reads it so.
 */
export function regExpOf(Kept: typeof BSONRegExp, source: string, given: string): RegExp | BSONRegExp {
  // Others than BSON knows mean nothing.
  const options = given.replaceAll(/[^ilmsux]/g, '');
  // Other languages' flag for Unicode adds nothing to what JavaScript does anyway; x and l have no equivalent.
  const flags = options.replace('s', 'g').replace('u', '');
  if (/[^gim]/.test(flags)) return new Kept(source, options);
  try {
    return new RegExp(source, flags);
  } catch {
    return new Kept(source, options);
  }
}
