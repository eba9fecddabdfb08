import type { Log } from '../common/log.js';
import { messageOf } from '../errors/minibatch.error.js';
import type { Activity } from '../common/activity.js';
import type { Ages } from '../common/ages.js';
import { type Clock, delay } from '../common/clock.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import type { Retention } from './engine.interface.js';
import { sweepPause } from './sweep-pause.js';
import { counted } from '../common/counted.js';

/** The longest time between two rounds; milliseconds. */
const LONGEST_PAUSE = 3_600_000;

/** A stream that may have something to sweep. */
export interface SweptStream {
  readonly stream: string;
  /** This process holds a lease of it. */
  readonly consumed: boolean;
  readonly retention: Retention;
}

interface RetentionTask {
  /** What it removes, in the singular. */
  readonly noun: string;
  /** Which of them. */
  readonly which?: string;
  /** Milliseconds. */
  readonly age: number | undefined;
  /** Resolves with how many are gone. */
  readonly sweep: (stream: string, before: Date) => Promise<number>;
}

/**
 * Removes what nobody wants any more and what no consumer's loop sees to: the marks that committed messages with a `dedupeId` leave
 * behind, kept messages and windows, dead letters, and the messages of streams that nobody consumes. Done by the process that holds a lease of
 * the stream, and, where nobody can hold one, by every process that knows the stream; two that do it at once do no harm.
 */
export class Sweeper {
  private readonly stopped = new AbortController();
  /** Monotonic times of the next sweeps. */
  private readonly due = new Map<string, number>();
  private wakeUp: (() => void) | undefined;

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly ages: Ages,
    private readonly log: Log,
    private readonly activity: Activity,
    /** How long a `dedupeId` is remembered after its message was committed; milliseconds. */
    private readonly dedupeTime: number,
    private readonly streams: () => readonly SweptStream[],
    /** Called with what the sweep of a stream has failed with. */
    private readonly failed: (stream: string, error: unknown) => void,
  ) {}

  start(): void {
    void this.run();
  }

  stop(): void {
    this.stopped.abort();
    this.wakeUp?.();
  }

  /** There may be other streams now. */
  refresh(): void {
    this.wakeUp?.();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopped;
    while (!signal.aborted) {
      const next = await this.activity.track(() => this.round());
      const rest = new AbortController();
      this.wakeUp = () => rest.abort();
      if (!signal.aborted) await delay(this.clock, next - this.clock.monotonic(), rest.signal);
    }
  }

  /** Sweeps what is due; resolves with the monotonic time of the next round. */
  private async round(): Promise<number> {
    let next = this.clock.monotonic() + LONGEST_PAUSE;
    for (const swept of this.streams()) {
      for (const task of this.tasks(swept)) {
        if (this.stopped.signal.aborted) return next;
        if (task.age === undefined) continue;
        const pause = sweepPause(task.age);
        const id = `${swept.stream}\0${task.noun}`;
        let due = this.due.get(id) ?? this.clock.monotonic() + pause;
        if (due <= this.clock.monotonic()) {
          await this.sweep(swept, task, task.age);
          due = this.clock.monotonic() + pause;
        }
        this.due.set(id, due);
        next = Math.min(next, due);
      }
    }
    // What has been due for this long belongs to streams that are not swept here any more.
    const past = this.clock.monotonic() - LONGEST_PAUSE;
    for (const [id, due] of this.due) if (due <= past) this.due.delete(id);
    return next;
  }

  private tasks({ retention, consumed }: SweptStream): readonly RetentionTask[] {
    const { store } = this;
    return [
      {
        noun: 'message',
        which: ' that nobody consumes',
        age: consumed ? undefined : retention.buffered,
        sweep: (stream, before) => store.expire(stream, before),
      },
      {
        noun: 'dedupe id',
        age: consumed ? this.dedupeTime : undefined,
        sweep: async (stream, before) => (await store.sweep(stream, { tombstones: before })).tombstones,
      },
      {
        noun: 'kept message',
        age: retention.kept,
        sweep: async (stream, before) => {
          const { messages, windows } = await store.sweep(stream, { kept: before });
          return Math.max(messages, windows);
        },
      },
      {
        noun: 'dead letter',
        age: retention.deadLetters,
        sweep: (stream, before) => store.discard(stream, { before }),
      },
    ];
  }

  private async sweep(
    { stream, consumed }: SweptStream,
    { noun, which = '', sweep }: RetentionTask,
    age: number,
  ): Promise<void> {
    try {
      // Somebody else may consume it, and then sweeps it.
      if (!consumed && ((await this.store.describeStream(stream))?.groups.length ?? 1) > 0) return;
      const count = await sweep(stream, new Date(this.ages.limit(age)));
      if (count > 0) this.log.log(`'${stream}': removed ${counted(count, noun)}${which} older than ${age} ms`);
    } catch (error) {
      // The next round retries it.
      if (this.stopped.signal.aborted) return;
      this.failed(stream, error);
      this.log.warn(`'${stream}': could not remove old ${noun}s${which}: ${messageOf(error)}`);
    }
  }
}
