import type { WindowRequest } from '../storage/stream-store.interface.js';
import type { InFlightWindow } from './in-flight-window.js';
import { SinkSkips } from './sink-skips.js';

/** What operators want done with the open windows of a consumer, until each is answered. */
export class WindowRequests {
  private readonly known = new Map<string, WindowRequest>();

  /** False if it is known already. */
  add(request: WindowRequest): boolean {
    const key = keyOf(request);
    if (this.known.has(key)) return false;
    this.known.set(key, request);
    return true;
  }

  delete(request: WindowRequest): void {
    this.known.delete(keyOf(request));
  }

  all(): readonly WindowRequest[] {
    return [...this.known.values()];
  }

  /** Those that are about this window. */
  of(window: string): readonly WindowRequest[] {
    // The usual case, on the hot path.
    if (this.known.size === 0) return NONE;
    return this.all().filter((request) => request.window === window);
  }
}

const NONE: readonly WindowRequest[] = [];

function keyOf({ window, action, sink = '' }: WindowRequest): string {
  return JSON.stringify([window, action, sink]);
}

/** From now on a failure of the sink does not keep the window; one that waits for its next try is let go at once. */
export function skipSink(open: InFlightWindow, sink: string | undefined): void {
  open.skips ??= new SinkSkips();
  open.skips.add(sink);
}
