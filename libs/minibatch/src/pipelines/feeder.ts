import { isDeepStrictEqual } from 'node:util';
import { type SideNote, sideOf } from '../flow/side-note.js';
import { type Look, Watermark } from '../flow/watermark.js';
import type { Draft } from './draft.js';
import type { Output } from './message-run.js';
import { noteMessage } from './window-messages.js';
import type { WindowStep } from './window.plan.js';

/** Waits before each note of a stage for which nothing comes; milliseconds. After the last one, it says nothing more. */
const PAUSES = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000];
/** A stage that is busy says how far it is no more often. */
const LEAST_PAUSE = 1_000;

/** A step with windows that a stage brings items to. */
export interface Feed {
  readonly step: WindowStep;
  /** Of the side that the stage is for the step. */
  readonly input: string;
  /** It gets results of the stage's own windows; otherwise what becomes of messages. */
  readonly isBehind: boolean;
  /** It follows no times of the stage, and is only told that it is flushed. */
  readonly isTimeless: boolean;
}

/** What a stage knows of its own windows. */
export interface Progress {
  readonly mark: number;
  /** When the next window that is open closes; Infinity: none is open. */
  readonly next: number;
  /** Whether the mark goes on with the clock. */
  readonly moves: boolean;
}

/** What an attempt at a batch says. */
export interface Saying {
  readonly look: Look;
  readonly partition: number;
  /** Of the stream. */
  readonly partitions: number;
  readonly isEmpty: boolean;
  /** The stream was flushed, and the stage's own windows with it. */
  readonly flushed: boolean;
  /** As the batch leaves it. */
  readonly own?: Progress;
  /** Results have gone to the steps behind the stage's windows. */
  readonly gaveResults: boolean;
  /** Where notes for steps behind the stage's windows go, if not straight to them. */
  readonly by?: string;
  readonly maxBytes: number;
}

/** What has been said, and what is known. */
interface State {
  /** Of each step that messages go to: how far their times have come. */
  readonly marks: ReadonlyMap<Feed, Watermark>;
  readonly said: ReadonlyMap<Feed, SideNote>;
  readonly saidAt: number;
  /** Notes since messages came. */
  readonly pauses: number;
  readonly hasBegun: boolean;
}

const NOTHING: State = { marks: new Map(), said: new Map(), saidAt: -Infinity, pauses: 0, hasBegun: false };

/**
 * Tells the steps with windows that a stage brings items to how far it has come: they close no window that it may still have something for.
 *
 * Items from a source say it themselves. While nothing comes, there are notes, less and less often, and then no more: what is silent is not
 * waited for, and costs nothing.
 */
export class Feeder {
  private state = NOTHING;
  private own: Progress | undefined;
  private restedAt = -Infinity;

  constructor(private readonly feeds: readonly Feed[]) {}

  init(): void {
    this.state = NOTHING;
    this.own = undefined;
    this.restedAt = -Infinity;
  }

  rest(look: Look, own: Progress | undefined): void {
    for (const mark of this.state.marks.values()) mark.rest(look);
    this.own = own;
    this.restedAt = look.monotonic;
  }

  busy(): void {
    for (const mark of this.state.marks.values()) mark.busy();
  }

  get isDue(): boolean {
    return this.restedAt >= this.dueAt;
  }

  /** When the next note is due if nothing comes; monotonic. */
  get dueAt(): number {
    const { saidAt, pauses } = this.state;
    const pause = PAUSES[pauses];
    return pause !== undefined && this.feeds.some((feed) => this.hasNews(feed)) ? saidAt + pause : Infinity;
  }

  private hasNews(feed: Feed): boolean {
    if (feed.isTimeless) return false;
    const { said, marks } = this.state;
    const before = said.get(feed);
    if (feed.isBehind) {
      const { own } = this;
      return own !== undefined && (own.moves || !isDeepStrictEqual(ownNote(feed, own), before));
    }
    const mark = marks.get(feed);
    return mark ? mark.reaches(mark.value + 1) < Infinity : before === undefined;
  }

  /** An attempt at a batch begins. */
  attempt(): Attempt {
    return new Attempt(this.feeds, this.state, (state) => {
      this.state = state;
    });
  }
}

/** Nothing of it counts before the attempt is through. */
export class Attempt {
  private readonly marks: Map<Feed, Watermark>;
  private readonly said: Map<Feed, SideNote>;
  private readonly fed = new Set<Feed>();
  private saidAt: number;
  private hasBegun: boolean;
  private pauses: number;

  constructor(
    private readonly feeds: readonly Feed[],
    state: State,
    private readonly keep: (state: State) => void,
  ) {
    this.marks = new Map([...state.marks].map(([feed, mark]) => [feed, mark.copy()]));
    this.said = new Map(state.said);
    ({ saidAt: this.saidAt, hasBegun: this.hasBegun, pauses: this.pauses } = state);
  }

  /** Items of messages go to steps. */
  note(outputs: readonly Output[], look: Look): void {
    for (const output of outputs) {
      if (output.kind !== 'message' || !output.fed) continue;
      const { step: name, time } = output.fed;
      const feed = this.feeds.find(({ step, isBehind, isTimeless }) => step.name === name && !isBehind && !isTimeless);
      if (!feed) continue;
      const mark = this.marks.get(feed) ?? new Watermark(feed.step.shape.time);
      this.marks.set(feed, mark);
      mark.read(time, look);
      this.fed.add(feed);
    }
  }

  /** Before its items: how many partitions there are, which are all waited for. */
  before({ partition, partitions, look, maxBytes }: Saying): readonly Draft[] {
    if (this.hasBegun || partitions === 1) return [];
    return this.feeds
      .filter((feed) => !feed.isBehind && this.fed.has(feed))
      .map(({ step, input }) => {
        const note = { side: sideOf(input, partition), of: partitions };
        return noteMessage(step.streams.items, step.name, note, look.now, maxBytes);
      });
  }

  /** Behind its items. @param read when everything had been read that there was, if it had */
  behind(saying: Saying, read: Look | undefined): readonly Draft[] {
    const { look, isEmpty, maxBytes, by } = saying;
    for (const mark of this.marks.values()) {
      if (read) mark.rest(read);
      else mark.busy();
    }
    const drafts = this.feeds.flatMap((feed) => {
      const note = noteOf(feed, saying, () =>
        feed.isBehind ? this.behindWindows(feed, saying) : this.ofSource(feed, saying),
      );
      if (!note) return [];
      const { step, isBehind } = feed;
      this.said.set(feed, withoutFlush(note));
      const stream = isBehind && by !== undefined ? by : step.streams.items;
      return noteMessage(stream, step.name, note, look.now, maxBytes);
    });
    if (drafts.length > 0 || this.fed.size > 0) this.saidAt = look.monotonic;
    if (!isEmpty) this.pauses = 0;
    else if (drafts.length > 0) this.pauses += 1;
    this.hasBegun ||= drafts.length > 0 || this.fed.size > 0;
    return drafts;
  }

  through(): void {
    const { marks, said, saidAt, pauses, hasBegun } = this;
    this.keep({ marks, said, saidAt, pauses, hasBegun });
  }

  private behindWindows(feed: Feed, { own, look, isEmpty, flushed, gaveResults }: Saying): SideNote | undefined {
    if (!own) return undefined;
    const note = ownNote(feed, own);
    const isNews = !isDeepStrictEqual(note, this.said.get(feed));
    const isTime = gaveResults || isEmpty || look.monotonic - this.saidAt >= LEAST_PAUSE;
    return flushed || (isNews && isTime) ? note : undefined;
  }

  private ofSource(feed: Feed, saying: Saying): SideNote | undefined {
    const { partition, partitions, look, isEmpty, flushed } = saying;
    const mark = this.marks.get(feed)?.value ?? -Infinity;
    // Items have said it. A batch without any for it says that the side is there.
    const isTime = isEmpty || (!this.fed.has(feed) && look.monotonic - this.saidAt >= LEAST_PAUSE);
    if (!isTime && !flushed) return undefined;
    return {
      side: sideOf(feed.input, partition),
      ...(Number.isFinite(mark) && { mark }),
      ...(!Number.isFinite(mark) && isEmpty && { isIdle: true as const }),
      ...(partitions > 1 && { of: partitions }),
    };
  }
}

function noteOf(
  { input, isTimeless }: Feed,
  { partition, partitions, flushed }: Saying,
  ofTime: () => SideNote | undefined,
): SideNote | undefined {
  if (!isTimeless) {
    const note = ofTime();
    return note && flushed ? { ...note, flush: true } : note;
  }
  if (!flushed) return undefined;
  return { side: sideOf(input, partition), ...(partitions > 1 && { of: partitions }), flush: true };
}

/** A stage with windows of its own has one partition. */
function ownNote({ step, input }: Feed, { mark, next }: Progress): SideNote | undefined {
  const { wait } = step.shape.time;
  const side = sideOf(input, 0);
  // In the middle of a flush.
  if (next === -Infinity) return undefined;
  if (!Number.isFinite(mark)) return { side, isIdle: true };
  // Some that are closed may have found no room in the commit.
  return { side, mark: Math.min(mark, next - 1) - wait, ...(next < Infinity && { next: next - wait }) };
}

function withoutFlush({ flush: _flush, ...note }: SideNote): SideNote {
  return note;
}
