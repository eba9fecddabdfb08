import { stackOf } from '../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import type { IndexRange, WindowRecord } from '../storage/stream-store.interface.js';
import { Bisection, type Part } from './bisection.js';
import { DEATHS, notedAt } from './deaths.js';
import type { Evidence } from './evidence.js';
import { type InFlightWindow, type TakenApart, takenApart } from './in-flight-window.js';
import { reschedule } from './reschedule.js';
import type { LeaseTerm } from './lease-term.js';
import { bury } from './settlement.js';
import { indicesOf, messagesOf, type Trials } from './window-trial.js';
import { counted } from '../common/counted.js';

/** How many messages of a window keep a stack in their dead letters. */
const MOST_STACKS = 100;
/** Dead letters that are stored together. */
const LETTERS = 500;
/** What is known of the parts is stored after so long and when the process stops, not after each: a crash repeats some of them. Milliseconds. */
const SAVE_EVERY = 100;

/** How a window is tried to see whether anything works: all that is left of it, then one message. */
export type Probe = 'whole' | 'one' | undefined;

/** What follows a step: another one; the window is through; it waits for evidence; an operator gave it up; nothing counts any more. */
export type PartStep = 'more' | 'again' | 'probe one' | 'finished' | 'set aside' | 'given up' | 'void';

/** Takes a window through its handler in parts, and stores the messages that are given up. */
export class PartsRunner {
  constructor(
    private readonly term: LeaseTerm,
    private readonly trials: Trials,
    private readonly evidence: Evidence,
  ) {}

  async step(open: InFlightWindow, apart: TakenApart, probe: Probe): Promise<PartStep> {
    const part = this.partOf(open, apart, probe);
    if (!part) return this.conclude(open, apart);
    if (messagesOf(open, part).length === 0) {
      apart.bisection.skip();
      return 'again';
    }
    const at = notedAt(this.term, open);
    const trial = await this.trials.run(open, part, at && { at, store: () => this.save(open, apart, 1) });
    if (trial.kind === 'void') {
      if (!this.term.isOver) await this.save(open, apart, 0);
      return 'void';
    }
    if (trial.kind === 'given up' || trial.kind === 'again') return trial.kind;
    // Only a stage is told so, and a stage has no parts.
    if (trial.kind === 'too large') throw trial.error;
    if (trial.kind === 'refused') {
      apart.error = messageOf(trial.error);
      if (part.to - part.from > 1) apart.bisection.failed(part);
      else {
        // The handler is through with it, and the sink says that another try is no use.
        this.giveUp(open, apart, part.from, trial.error);
        apart.bisection.passed(part, []);
      }
      if (apart.isProbed) this.startAfresh(apart);
    } else if (trial.kind === 'failed') {
      apart.error = messageOf(trial.error);
      if (probe === 'whole' && part.to - part.from > 1) return 'probe one';
      if (probe) return this.probeFailed(open, apart, part);
      if (trial.isLost && part.to - part.from === 1 && (await this.mayRepeat(open, apart, at === 'beginning')))
        return 'again';
      apart.failedAt = this.evidence.mark;
      if (apart.bisection.failed(part)) this.giveUp(open, apart, part.from, trial.error);
    } else {
      const { rejected } = trial.window;
      for (const index of apart.bisection.passed(part, indicesOf(open.record, rejected))) {
        this.giveUp(open, apart, index, rejected.get(open.record.messageIds[index] ?? ''));
      }
      if (apart.isProbed) this.startAfresh(apart);
    }
    await this.saveIfDue(open, apart);
    return 'more';
  }

  /** The next holder of the lease goes on from here: what got through is not to run again because this one stops. */
  async leave(open: InFlightWindow): Promise<void> {
    const { apart } = open;
    if (apart && !apart.isSaved && !this.term.isOver) await this.save(open, apart, 0);
  }

  /** Once more than others that fail: a worker may be lost for reasons of its own. To halve a part needs no proof, since nothing is lost by it. */
  private async mayRepeat(open: InFlightWindow, apart: TakenApart, isNoted: boolean): Promise<boolean> {
    const { aside, recoveries: before } = open.record;
    const recoveries = isNoted ? before : before + 1;
    if (recoveries >= DEATHS) {
      open.record = { ...open.record, recoveries: 0 };
      return false;
    }
    const { error, bisection } = apart;
    await reschedule(this.term, open, { error, split: bisection.state, recoveries, ...(aside && { aside }) });
    apart.isSaved = true;
    return true;
  }

  private startAfresh(apart: TakenApart): void {
    apart.bisection = apart.bisection.afresh();
    apart.isProbed = false;
  }

  private partOf(open: InFlightWindow, { bisection }: TakenApart, probe: Probe): Part | undefined {
    if (!probe) return bisection.next();
    return probe === 'one' ? bisection.probe(open.probes) : bisection.tried();
  }

  private async probeFailed(open: InFlightWindow, apart: TakenApart, part: Part): Promise<PartStep> {
    apart.bisection.probeFailed(part);
    if (apart.isProbed) {
      // It starts afresh when everything works again.
      open.apart = undefined;
      await reschedule(this.term, open, { error: apart.error });
    } else await this.save(open, apart, 0);
    return 'set aside';
  }

  /**
   * All that is left is given up; nothing of the window is to be tried any more.
   *
   * @param why by default that an operator wants it
   */
  async giveUpRest(open: InFlightWindow, why?: unknown): Promise<void> {
    const { record } = open;
    const apart = open.apart ?? takenApart(new Bisection(wholeOf(record)));
    const error = apart.error || record.error;
    const reason = why ?? `given up by giveUp()${error ? `; it had failed with: ${error}` : ''}`;
    for (const { from, to } of apart.bisection.rest) {
      for (let index = from; index < to; index += 1) {
        this.giveUp(open, apart, index, reason);
        if (apart.letters.length >= LETTERS) await this.storeLetters(apart);
      }
    }
    await this.storeLetters(apart);
    this.logGivenUp(open, apart);
  }

  /** What a stage rejects is given up at once: what it has made of the others counts already. */
  async giveUpRejected(open: InFlightWindow, rejected: ReadonlyMap<string, unknown>): Promise<void> {
    const apart = takenApart(new Bisection({ pending: [], alone: [], again: [], last: false }));
    for (const index of indicesOf(open.record, rejected)) {
      this.giveUp(open, apart, index, rejected.get(open.record.messageIds[index] ?? ''));
      if (apart.letters.length >= LETTERS) await this.storeLetters(apart);
    }
    await this.storeLetters(apart);
    this.logGivenUp(open, apart);
  }

  /** Nothing is left that may be tried now. */
  private async conclude(open: InFlightWindow, apart: TakenApart): Promise<PartStep> {
    const { bisection } = apart;
    if (bisection.isDone) {
      await this.storeLetters(apart);
      this.logGivenUp(open, apart);
      return 'finished';
    }
    const { onAllFailed } = this.term.definition;
    if (onAllFailed === 'deadLetter' || this.evidence.hasSince(apart.failedAt)) {
      bisection.proven = true;
      return 'more';
    }
    if (onAllFailed === 'block') {
      await this.block(open, apart);
      return 'more';
    }
    await this.setAside(open, apart);
    return 'set aside';
  }

  private async setAside(open: InFlightWindow, apart: TakenApart): Promise<void> {
    const { definition, parts } = this.term;
    const aside = open.record.aside ?? new Date(parts.clock.now());
    const error = this.allFailed(
      open,
      apart,
      'It is set aside, and the next windows are tried: if they get through, what fails once more becomes dead letters; if they ' +
        `fail too, nothing is given up and ${definition.label} waits until it works`,
    );
    parts.log.warn(error.message);
    await this.storeLetters(apart);
    await reschedule(this.term, open, {
      error: apart.error,
      split: apart.bisection.state,
      recoveries: deathsOf(open),
      aside,
    });
    apart.isSaved = true;
  }

  /** `onAllFailed: 'block'`: the fault is not in the messages, so the window waits in its worker. */
  private async block(open: InFlightWindow, apart: TakenApart): Promise<void> {
    const { definition, parts } = this.term;
    const { record } = open;
    const error = this.allFailed(
      open,
      apart,
      "Nothing is given up; it is retried until it works. Fix what they all need, or set onAllFailed: 'evidence' or 'deadLetter'",
    );
    this.evidence.block(open);
    parts.log.error(error.message);
    const change = {
      attempt: record.attempt + 1,
      nextTry: new Date(parts.clock.now() + definition.retry.max),
      error: error.message,
      recoveries: deathsOf(open),
    };
    const { rest } = apart.bisection;
    const isWhole = rest.reduce((sum, { from, to }) => sum + to - from, 0) === record.messageIds.length;
    await this.storeLetters(apart);
    if (isWhole) {
      open.apart = undefined;
      await reschedule(this.term, open, change);
    } else {
      const again = new Bisection({ pending: rest, alone: [], again: [], last: false });
      open.apart = { ...apart, bisection: again, isSaved: true };
      await reschedule(this.term, open, { ...change, split: again.state });
    }
  }

  private allFailed({ record, messages }: InFlightWindow, { error }: TakenApart, then: string): MinibatchError {
    const { definition, counters, parts } = this.term;
    const failed = new MinibatchError(
      ErrorCode.AllFailed,
      `${definition.label}: all that is left of the ${counted(messages.length, 'message')} of window ${record.id} failed alone, the last with: ` +
        `${error}. ${then}`,
    );
    counters.failed(parts.clock.now(), failed);
    return failed;
  }

  // ---- what is given up, and where it stands

  private giveUp(open: InFlightWindow, apart: TakenApart, index: number, error: unknown): void {
    const { definition, parts } = this.term;
    const { record } = open;
    const [message] = messagesOf(open, { from: index, to: index + 1 });
    if (!message) return;
    const given = apart.deadLettered + apart.letters.length;
    const stack = given < MOST_STACKS ? stackOf(error) : undefined;
    apart.lastGivenUp = messageOf(error);
    apart.letters.push({
      message,
      window: record.id,
      consumer: definition.label,
      attempts: record.attempt,
      error: apart.lastGivenUp,
      ...(stack === undefined ? {} : { stack }),
      died: new Date(parts.clock.now()),
    });
  }

  private async storeLetters(apart: TakenApart): Promise<void> {
    const { letters } = apart;
    if (letters.length === 0) return;
    const stored = await bury(this.term, letters);
    apart.deadLettered += stored;
    apart.letters = [];
  }

  private async saveIfDue(open: InFlightWindow, apart: TakenApart): Promise<void> {
    apart.isSaved = false;
    const isDue = this.term.parts.clock.monotonic() - apart.savedAt >= SAVE_EVERY;
    // Of a window that may end its process each step is stored: the next one is to know which part it was.
    if (open.inherited) await this.save(open, apart, 0);
    else if (isDue || apart.letters.length >= LETTERS) await this.save(open, apart, open.startedOutOfOrder ? 1 : 0);
  }

  private async save(open: InFlightWindow, apart: TakenApart, begun: 0 | 1): Promise<void> {
    await this.storeLetters(apart);
    const { recoveries, aside, error } = open.record;
    const known = apart.error || error;
    await reschedule(this.term, open, {
      ...(known && { error: known }),
      split: apart.bisection.state,
      recoveries: begun === 0 ? 0 : open.inherited ? recoveries + 1 : 1,
      ...(aside && { aside }),
    });
    apart.savedAt = this.term.parts.clock.monotonic();
    apart.isSaved = true;
  }

  private logGivenUp({ record, messages }: InFlightWindow, { deadLettered, lastGivenUp }: TakenApart): void {
    const { definition, parts } = this.term;
    if (deadLettered === 0) return;
    parts.log.error(
      `${definition.label}: gave up ${deadLettered} of ${counted(messages.length, 'message')} of window ${record.id}; ` +
        `${deadLettered === 1 ? 'it is a dead letter' : 'they are dead letters'} of '${definition.key.stream}', the last with the error: ${lastGivenUp}`,
    );
  }
}

function wholeOf({ messageIds }: WindowRecord) {
  const all: readonly IndexRange[] = messageIds.length === 0 ? [] : [{ from: 0, to: messageIds.length }];
  return { pending: [], alone: [], again: all, last: false };
}

/**
 * To wait for evidence ends no handler, so what has ended processes before still counts. Each end of a handler of an inherited window is
 * stored when it comes; in another window nothing has ended a process.
 */
function deathsOf({ inherited, record }: InFlightWindow): number {
  return inherited ? record.recoveries : 0;
}
