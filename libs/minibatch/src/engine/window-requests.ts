import type { WindowRequest } from '../storage/stream-store.interface.js';
import type { InFlightWindow } from './in-flight-window.js';
import type { InFlightWindows } from './in-flight-windows.js';
import type { LeaseTerm } from './lease-term.js';
import type { PassScheduler } from './pass-scheduler.js';
import { SinkSkips } from './sink-skips.js';
import type { WindowDispatcher } from './window-dispatcher.js';

/**
 * What operators want done with the windows of a consumer that are in flight, until each request is answered. A request waits until the
 * windows of an earlier holder are taken over: it may be about one of them.
 */
export class WindowRequests {
  private readonly known = new Map<string, WindowRequest>();
  private isReady = false;

  constructor(
    private readonly term: LeaseTerm,
    private readonly windows: InFlightWindows,
    private readonly dispatcher: WindowDispatcher,
    private readonly passes: PassScheduler,
  ) {}

  /** Requests of the stream, also those that are known already. */
  receive(requests: readonly WindowRequest[]): void {
    for (const request of requests) {
      const key = keyOf(request);
      if (this.known.has(key)) continue;
      this.known.set(key, request);
      if (this.isReady) this.apply(request);
    }
  }

  /** All windows of earlier holders are taken over. */
  ready(): void {
    this.isReady = true;
    for (const request of [...this.known.values()]) this.apply(request);
  }

  /** The window has left the store: requests about it are answered. */
  left({ record }: InFlightWindow): void {
    // The usual case, on the hot path.
    if (this.known.size === 0) return;
    for (const request of [...this.known.values()]) if (request.window === record.id) this.answer(request);
  }

  private apply(request: WindowRequest): void {
    const open = this.windows.findRunnable(request.window);
    if (!open) {
      if (!this.windows.isFinishing(request.window)) this.answer(request);
      return;
    }
    if (request.action === 'skip') skipSink(open, request.sink);
    else this.dispatcher.giveUp(open);
  }

  private answer(request: WindowRequest): void {
    const { definition, parts } = this.term;
    this.passes.startTask(async () => {
      await this.term.persist('note that a window is gone', () =>
        parts.store.updateStream(definition.key.stream, { answered: request }),
      );
      this.known.delete(keyOf(request));
    });
  }
}

function keyOf({ window, action, sink = '' }: WindowRequest): string {
  return JSON.stringify([window, action, sink]);
}

/** From now on a failure of the sink does not keep the window; one that waits for its next try is let go at once. */
function skipSink(open: InFlightWindow, sink: string | undefined): void {
  open.skips ??= new SinkSkips();
  open.skips.add(sink);
}
