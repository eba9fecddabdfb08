import { worthALine } from '../../common/worth-a-line.js';

/** What a source has done with documents; since it was made. */
export interface CollectionSourceCounts {
  /** Documents that were left out with `unstorable: 'skip'`. */
  readonly skipped: number;
  /** Documents that the stream can't take, or that a function of the options threw for: skipped, or given to `unstorable`. */
  readonly unstorable: number;
}

/** Counts, and says in the log what nobody may overlook. */
export class DocumentCounts implements CollectionSourceCounts {
  skipped = 0;
  unstorable = 0;

  constructor(private readonly log: { readonly error: (line: string) => void }) {}

  /** `why`: names the document. */
  leftOut(why: string): void {
    this.skipped += 1;
    this.count(why, 'skipped');
  }

  givenAway(why: string): void {
    this.count(why, 'given to unstorable');
  }

  private count(why: string, fate: string): void {
    this.unstorable += 1;
    if (worthALine(this.unstorable)) this.log.error(`${why}. It was ${fate}; ${this.unstorable} unstorable in all`);
  }
}
