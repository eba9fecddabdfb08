import { setOwn } from './set-own.js';

/**
 * What becomes of an integer that a JavaScript number can't hold exactly: one beyond ±(2^53 − 1).
 *
 * - `'bigint'`: it is a bigint, exact. One of more than 64 bits, which no store can hold, makes the text malformed
 * - `'malformed'`: the text is malformed
 * - `'number'`: it is rounded to the nearest number, as `JSON.parse` does
 */
export type LargeIntegers = 'bigint' | 'malformed' | 'number';

export const LARGE_INTEGERS: readonly LargeIntegers[] = ['bigint', 'malformed', 'number'];

/** Turns a number's text into its value. @throws SyntaxError */
type ReadNumber = (text: string, isInteger: boolean) => unknown;

/**
 * Only a text with 16 digits in a row where a number may begin, or with an exponent of three digits, can have a number that
 * `JSON.parse` would change. It may match inside a string too: then the text is only read more slowly.
 */
const MAY_LOSE = /(?:^|[[:,\s-])\d{16}|\dE\+?\d{3}/i;
/** More digits than any integer has that fits a store, with its sign. */
const MOST_DIGITS = 22;
/** Stores nest less. */
const MOST_LEVELS = 1000;

/**
 * Like `JSON.parse`, but no integer is rounded without a word: see {@link LargeIntegers}. Numbers with a fraction or an exponent are
 * doubles, as everywhere; one that is too large for a double makes the text malformed.
 *
 * @throws SyntaxError
 */
export function readJson(text: string, largeIntegers: LargeIntegers): unknown {
  if (!MAY_LOSE.test(text)) return JSON.parse(text) as unknown;
  return new Reader(text, (digits, isInteger) => exactNumber(digits, isInteger, largeIntegers), false).read();
}

/**
 * JSON as Python writes it, with NaN and ±Infinity. These are null here, and so is any number that can't be stored as it is: one that is
 * too large for a double, or an integer of more than 64 bits.
 *
 * @throws SyntaxError
 */
export function readPythonJson(text: string): unknown {
  try {
    if (!MAY_LOSE.test(text)) return JSON.parse(text) as unknown;
  } catch {
    // It may be one of Python's words.
  }
  const numberOrNull: ReadNumber = (digits, isInteger) => {
    try {
      return exactNumber(digits, isInteger, 'bigint');
    } catch {
      return null;
    }
  };
  return new Reader(text, numberOrNull, true).read();
}

function exactNumber(text: string, isInteger: boolean, largeIntegers: LargeIntegers): unknown {
  const number = Number(text);
  if (!Number.isFinite(number)) throw new SyntaxError(`${shortened(text)} is too large for a number`);
  if (!isInteger || Number.isSafeInteger(number) || largeIntegers === 'number') return number;
  if (largeIntegers === 'bigint' && text.length <= MOST_DIGITS) {
    const integer = BigInt(text);
    if (BigInt.asIntN(64, integer) === integer) return integer;
    // Such as 1e20, which JavaScript writes with all its digits.
    if (BigInt(number) === integer) return number;
  }
  const limit = largeIntegers === 'bigint' ? 'the 64 bits of an integer' : 'a number to be exact';
  throw new SyntaxError(`${shortened(text)} is too large for ${limit}`);
}

function shortened(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?(E[+-]?\d+)?/iy;
const PYTHON_WORD = /NaN|-?Infinity/y;
const LITERAL = /true|false|null/y;
const SPACE = /[ \t\n\r]*/y;

const LITERALS: Readonly<Record<string, unknown>> = { true: true, false: false, null: null };

/** Reads what `JSON.parse` reads, with numbers by a function. */
class Reader {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly readNumber: ReadNumber,
    private readonly isPython: boolean,
  ) {}

  read(): unknown {
    const value = this.value(0);
    if (this.next() !== undefined) throw this.unexpected();
    return value;
  }

  private value(level: number): unknown {
    if (level > MOST_LEVELS) throw new SyntaxError(`it is nested more than ${MOST_LEVELS} levels deep`);
    switch (this.next()) {
      case '"':
        return this.string();
      case '{':
        return this.object(level);
      case '[':
        return this.array(level);
      default:
        return this.scalar();
    }
  }

  private object(level: number): unknown {
    const object: Record<string, unknown> = {};
    this.at += 1;
    if (this.skip('}')) return object;
    do {
      if (this.next() !== '"') throw this.unexpected();
      const key = this.string();
      if (!this.skip(':')) throw this.unexpected();
      setOwn(object, key, this.value(level + 1));
    } while (this.skip(','));
    if (!this.skip('}')) throw this.unexpected();
    return object;
  }

  private array(level: number): unknown {
    const array: unknown[] = [];
    this.at += 1;
    if (this.skip(']')) return array;
    do array.push(this.value(level + 1));
    while (this.skip(','));
    if (!this.skip(']')) throw this.unexpected();
    return array;
  }

  private string(): string {
    const start = this.at;
    let end = start;
    do {
      end = this.text.indexOf('"', end + 1);
      if (end === -1) throw new SyntaxError('it ends in the middle of a string');
    } while (isEscaped(this.text, end));
    this.at = end + 1;
    // It knows what may stand in a string, and what escapes mean.
    return JSON.parse(this.text.slice(start, this.at)) as string;
  }

  private scalar(): unknown {
    const number = this.match(NUMBER);
    // Before a number is made of what is the beginning of `-Infinity` or no number at all.
    if (number) return this.readNumber(number[0], number[1] === undefined && number[2] === undefined);
    const literal = this.match(LITERAL);
    if (literal) return LITERALS[literal[0]];
    if (this.isPython && this.match(PYTHON_WORD)) return null;
    throw this.unexpected();
  }

  /** The next character that is no white space; undefined at the end. */
  private next(): string | undefined {
    this.match(SPACE);
    return this.text[this.at];
  }

  private skip(character: string): boolean {
    if (this.next() !== character) return false;
    this.at += 1;
    return true;
  }

  private match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) return undefined;
    this.at += found[0].length;
    return found;
  }

  private unexpected(): SyntaxError {
    const found = this.text[this.at];
    return new SyntaxError(
      found === undefined ? 'it ends too early' : `unexpected ${JSON.stringify(found)} at position ${this.at}`,
    );
  }
}

/** By an odd number of backslashes before it. */
function isEscaped(text: string, at: number): boolean {
  let before = at;
  while (text[before - 1] === '\\') before -= 1;
  return (at - before) % 2 === 1;
}
