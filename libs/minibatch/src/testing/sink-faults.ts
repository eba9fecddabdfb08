import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/** A sink that fails because a test wants it to. */
export interface FailingSink {
  /** How often `put` was called meanwhile. */
  readonly tries: number;
  /** From now on `put` reaches the sink again. */
  restore(): void;
}

interface Fault {
  readonly error: unknown;
  left: number;
  tries: number;
}

/** Which sinks fail, by their names. */
export class SinkFaults {
  private readonly known = new Set<string>();
  private readonly faults = new Map<string, Fault>();

  know(name: string): void {
    this.known.add(name);
  }

  /** @throws MinibatchError `UnresolvedProvider` if no consumer has a sink of that name */
  fail(name: string, error: unknown, times: number): FailingSink {
    if (!this.known.has(name)) {
      throw new MinibatchError(
        ErrorCode.UnresolvedProvider,
        `MinibatchHarness.failSink: no consumer has a sink ${name}; sinks are: ${[...this.known].join(', ') || 'none'}`,
        { details: { sink: name } },
      );
    }
    const fault: Fault = { error, left: times, tries: 0 };
    this.faults.set(name, fault);
    return {
      get tries() {
        return fault.tries;
      },
      restore: () => {
        fault.left = 0;
      },
    };
  }

  /** @throws what the sink is to fail with, if it is */
  check(name: string): void {
    const fault = this.faults.get(name);
    if (!fault || fault.left <= 0) return;
    fault.left -= 1;
    fault.tries += 1;
    throw fault.error;
  }
}
