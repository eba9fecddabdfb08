import { messageOf } from '../../errors/minibatch.error.js';

/** What a source did not append, or not as it should be; since it was made. */
export interface MqttSourceCounters {
  /** Payloads that were not of their `format`, whatever was done with them. */
  readonly malformed: number;
  /** Messages of those that were left out. */
  readonly skipped: number;
  /** Messages that the stream can't take, each time they came. */
  readonly unstorable: number;
}

type Counter = keyof MqttSourceCounters;

/** Counts and logs them: each unstorable message, and malformed ones the less often the more they are. */
export class Oddities {
  readonly counters: Record<Counter, number> = { malformed: 0, skipped: 0, unstorable: 0 };

  constructor(private readonly log: { warn(line: string): void; error(line: string): void }) {}

  malformed(topic: string, error: Error, what: 'kept' | 'skipped'): void {
    const count = this.count(what === 'skipped' ? 'skipped' : 'malformed');
    if (what === 'skipped') this.count('malformed');
    // 1, 2, 4, 8, …: one broken device must not fill the log.
    if ((count & (count - 1)) !== 0) return;
    const fate = what === 'kept' ? 'was appended as it is' : 'was left out';
    this.log.warn(
      `a payload of '${topic}' is not of its format and ${fate}; number ${count} of these: ${error.message}`,
    );
  }

  unstorable(topic: string, bytes: number, error: Error, fate: string): void {
    const count = this.count('unstorable');
    this.log.error(
      `a message of '${topic}' (${bytes} bytes) can't be stored and ${fate}; number ${count} of these: ${messageOf(error)}`,
    );
  }

  private count(counter: Counter): number {
    this.counters[counter] += 1;
    return this.counters[counter];
  }
}
