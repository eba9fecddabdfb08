import type { Log } from '../common/log.js';
import { worthALine } from '../common/worth-a-line.js';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { FailureReason } from './failure-reason.js';
import { ask, named } from './outgoing.js';
import type { HoldingPolicy, MalformedPolicy } from './policies.js';
import type { MutableCounters } from './source-counters.js';

/** How a message is named in logs and errors. */
export interface MessageName {
  /** `the record flights:0:17` */
  readonly text: string;
  /** The same for programs, in the details of errors. */
  readonly details: Readonly<Record<string, unknown>>;
}

export interface MessageProblemsParts<M> {
  readonly where: string;
  readonly unstorable: HoldingPolicy<M>;
  readonly nameOf: (message: M) => MessageName;
  readonly counters: MutableCounters;
  /** Absent for targets of tests. */
  readonly log: Log | undefined;
}

/**
 * What becomes of messages that are malformed or that the stream cannot take: counts and logs them, and carries out `unstorable`.
 *
 * A message that nobody has is logged as an error, one that was kept or given away as a warning. Of each kind the first ten are logged and
 * then every thousandth. A message that fails the source is not logged here: the failure is.
 */
export class MessageProblems<M> {
  constructor(private readonly parts: MessageProblemsParts<M>) {}

  /**
   * Carries out `malformed` for what is not of its format; undefined leaves it out.
   *
   * @param name how logs call it
   * @param plain what `'keep'` appends
   * @throws MinibatchError `SourceFailed` if the function threw
   */
  malformed<C>(policy: MalformedPolicy<C>, content: C, name: string, error: Error, plain: unknown): unknown {
    const { where, counters } = this.parts;
    counters.malformed += 1;
    const data = typeof policy === 'function' ? ask(where, 'malformed', () => policy(content, error)) : plain;
    if (policy === 'skip' || data === undefined) {
      counters.skipped += 1;
      this.sayMalformed(name, error, 'was skipped');
      return undefined;
    }
    this.sayMalformed(name, error, policy === 'keep' ? 'was kept as it is' : 'was replaced');
    return data;
  }

  /** Its data are what no store can hold, and its text is appended in their place. */
  keptAsText(message: M, error: Error): void {
    this.parts.counters.malformed += 1;
    this.sayMalformed(this.parts.nameOf(message).text, error, 'was kept as it is');
  }

  /**
   * Resolves with true if the message must not be acknowledged.
   *
   * @throws MinibatchError what it was refused with, with `unstorable: 'fail'`; `SourceFailed` if the function threw or rejected
   */
  async unstorable(message: M, error: Error): Promise<boolean> {
    const { where, unstorable, counters, nameOf } = this.parts;
    counters.unstorable += 1;
    if (unstorable === 'fail') throw this.failure(message, error);
    if (unstorable === 'hold' || unstorable === 'skip') {
      if (unstorable === 'skip') counters.skipped += 1;
      this.say('error', message, error, unstorable === 'skip' ? 'was skipped' : 'stays with the broker');
      return unstorable === 'hold';
    }
    try {
      await unstorable(message, this.failure(message, error));
    } catch (cause) {
      const { text, details } = nameOf(message);
      throw new MinibatchError(
        ErrorCode.SourceFailed,
        `${where}: unstorable failed for ${text}, which will be redelivered: ${messageOf(cause)}`,
        { cause, details: { reason: FailureReason.Unstorable, option: 'unstorable', ...details } },
      );
    }
    this.say('warn', message, error, 'was given to unstorable');
    return false;
  }

  private sayMalformed(name: string, error: Error, fate: string): void {
    const { where, counters, log } = this.parts;
    if (!worthALine(counters.malformed)) return;
    log?.warn(`${where}: ${name} is malformed and ${fate} (${counters.malformed} so far): ${messageOf(error)}`);
  }

  private failure(message: M, error: Error): Error {
    const { where, nameOf } = this.parts;
    const { text, details } = nameOf(message);
    return named(`${where}: ${text}`, error, { reason: FailureReason.Unstorable, ...details });
  }

  private say(level: 'warn' | 'error', message: M, error: Error, fate: string): void {
    const { where, counters, log, nameOf } = this.parts;
    const { unstorable: count } = counters;
    if (!worthALine(count)) return;
    const what = `${where}: ${nameOf(message).text} cannot be stored and ${fate} (${count} so far)`;
    log?.[level](`${what}: ${withoutPrefix(messageOf(error), `${where}: `)}`);
  }
}

/** The line names the source already. */
function withoutPrefix(text: string, prefix: string): string {
  return text.startsWith(prefix) ? text.slice(prefix.length) : text;
}
