import type { BackoffOptions } from '../common/backoff.js';
import { checkKeys, checkName, invalidOption } from '../common/checks.js';
import type { Clock } from '../common/clock.js';
import type { Log } from '../common/log.js';
import { resolveRetry } from '../definitions/shared.options.js';
import {
  type AttachedSource,
  type AttachOptions,
  type OutcomeCounter,
  SourceRunner,
  SourceState,
  type SourceStatus,
} from './source-runner.js';
import type { Source, SourceTarget } from './source.interface.js';

interface SourceManagerParts {
  readonly clock: Clock;
  readonly log: Log;
  /** Waits before a failed source is restarted, unless the source has its own. */
  readonly retry: BackoffOptions;
  /** The stream as the source sees it. */
  readonly target: (stream: string, source: string, count: OutcomeCounter) => SourceTarget;
}

/** The sources of a process, each under its name on its stream. */
export class SourceManager {
  private readonly runners = new Set<SourceRunner>();

  constructor(private readonly parts: SourceManagerParts) {}

  /** Starts a source. @throws MinibatchError `InvalidOptions` */
  attach(stream: string, source: Source, options: AttachOptions = {}): AttachedSource {
    const where = `source of '${stream}'`;
    checkSource(where, source);
    checkKeys(where, options, ['name', 'retry']);
    const name = checkName(where, 'name', options.name ?? nameOf(source));
    this.release(where, stream, name);
    const { clock, log, retry, target } = this.parts;
    const runner = new SourceRunner({
      name,
      source,
      target: (count) => target(stream, name, count),
      clock,
      log,
      retry: resolveRetry(where, options.retry, retry),
    });
    this.runners.add(runner);
    runner.start();
    return runner;
  }

  status(): readonly SourceStatus[] {
    return [...this.runners].map((runner) => runner.status);
  }

  /** Resolves when all have stopped, or were abandoned. */
  async stop(): Promise<void> {
    await Promise.all([...this.runners].map((runner) => runner.detach()));
  }

  /** Forgets a source of that name that has ended. @throws MinibatchError `InvalidOptions` if it still runs */
  private release(where: string, stream: string, name: string): void {
    for (const runner of this.runners) {
      const { status } = runner;
      if (status.stream !== stream || status.name !== name) continue;
      if (status.state !== SourceState.Done && status.state !== SourceState.Stopped) {
        throw invalidOption(
          where,
          'name',
          name,
          'a name that no other source of the stream has: its position is stored under it',
        );
      }
      this.runners.delete(runner);
    }
  }
}

/** @throws MinibatchError `InvalidOptions` */
function checkSource(where: string, source: unknown): void {
  if (typeof source === 'object' && source !== null && 'stream' in source && typeof source.stream === 'function')
    return;
  throw invalidOption(where, 'source', source, 'an instance with a method stream(target, signal)');
}

/** The class, or a word for a plain object. */
function nameOf(source: object): string {
  const name = source.constructor?.name;
  return name && name !== 'Object' ? name : 'source';
}
