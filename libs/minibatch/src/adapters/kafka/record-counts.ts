import { Logger } from '@nestjs/common';
import type { KafkaRecord } from './kafka-record.js';

/** What a source has done with records; since it was made. */
export interface KafkaSourceCounts {
  /** Records that came, repeated ones too. */
  readonly received: number;
  /** Of these, values that were not what `format` says, whatever became of them. */
  readonly malformed: number;
  /** Records that were left out: malformed ones with `malformed: 'skip'`, unstorable ones with `unstorable: 'skip'`. */
  readonly skipped: number;
  /** Records that the stream can't take, or that a function of the options threw for, whatever became of them. */
  readonly unstorable: number;
}

/** Names in one line of the log. */
const MOST_NAMES = 5;

/** Counts, and says in the log what nobody may overlook. */
export class RecordCounts implements KafkaSourceCounts {
  received = 0;
  malformed = 0;
  skipped = 0;
  unstorable = 0;
  private readonly logger = new Logger('Minibatch');

  constructor(private readonly where: string) {}

  /** A malformed value that is kept is seen in the stream: the log names the first, and the counter goes on. */
  kept(record: KafkaRecord, why: string): void {
    this.malformed += 1;
    if (this.malformed > 1) return;
    this.logger.warn(
      `${this.where}: the value of ${record.id} is malformed (${why}) and kept as it is; more are only counted`,
    );
  }

  leftOut(records: readonly KafkaRecord[], why: string): void {
    if (records.length === 0) return;
    this.skipped += records.length;
    this.logger.error(
      `${this.where}: ${records.length} records skipped (${namesOf(records)}): ${why}; ${this.skipped} skipped in all`,
    );
  }

  givenAway(records: readonly KafkaRecord[], why: string): void {
    this.logger.warn(
      `${this.where}: ${records.length} records were given to unstorable (${namesOf(records)}): ${why}; ${this.unstorable} unstorable in all`,
    );
  }
}

function namesOf(records: readonly KafkaRecord[]): string {
  const names = records.slice(0, MOST_NAMES).map(({ id }) => id);
  if (records.length > MOST_NAMES) names.push('…');
  return names.join(', ');
}
