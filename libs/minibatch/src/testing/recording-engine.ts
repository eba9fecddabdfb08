import { BatchWindow } from '../engine/batch-window.js';
import type {
  ConsumerDefinition,
  ConsumerStatus,
  DrainResult,
  Engine,
  Retention,
  WakeUpStatus,
} from '../engine/engine.interface.js';
import type { ConsumerKey } from '../storage/stream-store.interface.js';
import type { Window } from '../windows/window.js';
import { VirtualClock } from './virtual-clock.js';
import type { Clock } from '../common/clock.js';

/** One run of a handler that did not throw. */
export interface RecordedWindow<R = unknown> {
  /** With its messages as they were appended, whatever the handler did to its own copy. */
  readonly window: Window;
  readonly result: R;
}

/** An engine that remembers what its handlers were given and what they returned. */
export class RecordingEngine implements Engine {
  private readonly recorded = new Map<string, RecordedWindow[]>();
  private readonly waiting = new Set<() => void>();

  constructor(
    private readonly engine: Engine,
    private readonly clock: Clock,
  ) {}

  add(definition: ConsumerDefinition): void {
    this.engine.add(this.recording(definition));
  }

  run(definition: ConsumerDefinition): Promise<void> {
    return this.engine.run(this.recording(definition));
  }

  remove(key: ConsumerKey, timeout: number): Promise<DrainResult> {
    return this.engine.remove(key, timeout);
  }

  private recording(definition: ConsumerDefinition): ConsumerDefinition {
    const { label, handler } = definition;
    this.recorded.set(label, []);
    return {
      ...definition,
      handler: async (window) => {
        const result = await handler(window);
        this.recorded.get(label)?.push({ window: window instanceof BatchWindow ? window.view() : window, result });
        for (const resolve of this.waiting) resolve();
        this.waiting.clear();
        return result;
      },
    };
  }

  retain(stream: string, retention: Retention): void {
    this.engine.retain(stream, retention);
  }

  start(): Promise<void> {
    return this.engine.start();
  }

  /** A virtual clock is moved over the time a drain may take, or a handler that hangs would hang the test. */
  async stop(timeout: number, hurry?: AbortSignal): Promise<DrainResult> {
    const stopped = this.engine.stop(timeout, hurry);
    if (this.clock instanceof VirtualClock) await this.clock.advance(timeout + 10_000);
    return stopped;
  }

  wake(stream: string): void {
    this.engine.wake(stream);
  }

  refresh(stream: string): Promise<void> {
    return this.engine.refresh(stream);
  }

  status(): readonly ConsumerStatus[] {
    return this.engine.status();
  }

  wakeUps(): WakeUpStatus {
    return this.engine.wakeUps();
  }

  settled(): Promise<void> {
    return this.engine.settled();
  }

  /** Undefined if there is no such consumer. */
  windows(label: string): readonly RecordedWindow[] | undefined {
    return this.recorded.get(label);
  }

  get labels(): readonly string[] {
    return [...this.recorded.keys()];
  }

  /** Resolves at the next run of a handler. */
  nextRun(): Promise<void> {
    return new Promise((resolve) => this.waiting.add(resolve));
  }
}
