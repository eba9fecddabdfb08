import { background, type Clock } from '../common/clock.js';
import type { Log } from '../common/log.js';
import type { StreamInfo, StreamStore } from '../storage/stream-store.interface.js';

/** How long a stream may be without a consumer before the log says so; milliseconds. Others find new streams by a pattern, or start later. */
const PATIENCE = 10_000;

/** Streams that this process appends to and that nobody consumes: a name that is misspelt would go unnoticed. */
export class UnreadStreams {
  private readonly waiting = new Set<string>();
  private readonly clock: Clock;
  private forget = (): void => undefined;

  constructor(
    private readonly store: Pick<StreamStore, 'listStreams'>,
    clock: Clock,
    private readonly log: Log,
  ) {
    this.clock = background(clock);
  }

  /** The process has begun to append to it. */
  note({ name, groups }: Pick<StreamInfo, 'name' | 'groups'>): void {
    if (groups.length > 0) return;
    if (this.waiting.size === 0) this.forget = this.clock.schedule(PATIENCE, () => void this.check());
    this.waiting.add(name);
  }

  private async check(): Promise<void> {
    const names = [...this.waiting];
    this.waiting.clear();
    let streams: readonly StreamInfo[];
    try {
      streams = await this.store.listStreams(names);
    } catch {
      // The appends tell of a store that does not answer.
      return;
    }
    for (const { name, groups } of streams) {
      if (groups.length > 0) continue;
      this.log.warn(
        `'${name}' is appended to and has no consumer, here or in another process, so its messages wait. Is the name the one that ` +
          '@Streaming or consume() has?',
      );
    }
  }

  close(): void {
    this.forget();
    this.waiting.clear();
  }
}
