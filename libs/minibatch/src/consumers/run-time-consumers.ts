import type { Log } from '../common/log.js';
import type { ConsumerDefinition, DrainResult, Engine } from '../engine/engine.interface.js';
import type { WindowHandler } from '../executors/executor.interface.js';
import type { Clock } from '../common/clock.js';
import { checkKeys, copyOptions, invalidOption } from '../common/checks.js';
import type { ResolvedAttempts } from '../definitions/shared.options.js';
import { bindingLine } from './binding-line.js';
import { type ConsumerParts, definitionOf, keyedDefinitionOf, type MakeKeyed } from './consumer.definition.js';
import type { ConsumerScope } from './consumer.scope.js';
import { type DrainedStream, watchDrain } from './drain.js';
import { resolveStreaming } from './streaming.resolve.js';

/** A consumer that `stream.consume()` has started. */
export interface RunningConsumer {
  readonly stream: string;
  readonly group: string;
  /**
   * Starts no more windows and resolves when those in flight are committed, after `shutdownTimeout` at the latest; then their signals
   * abort, and they are redelivered. The group stays registered: messages wait for it. In the function itself call it without `await`, or it
   * waits for itself.
   */
  stop(): Promise<DrainResult>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** See `PatternConsumers`, which the client does without. */
interface MatchingConsumers {
  name(stream: string): Promise<() => void>;
  unname(stream: string): void;
}

export interface RunTimeParts {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly log: Log;
  /** Defaults of the consumers. */
  readonly retry: ResolvedAttempts;
  readonly leaseTime: number;
  readonly shutdownTimeout: number;
  /** Where sinks and emitters come from. */
  readonly scope: ConsumerScope;
  /**
   * Takes the group, until the answer is called. @throws MinibatchError `DuplicateGroup` if another consumer of the application has it
   */
  readonly reserve: (stream: string, group: string, label: string) => () => void;
  /** Makes windows by key and event time. */
  readonly makeKeyed: MakeKeyed;
  /** Consumers that name their streams by a pattern; absent in a process that has none. */
  readonly patterns?: MatchingConsumers;
}

interface Run {
  readonly definition: ConsumerDefinition;
  readonly stop: (timeout?: number) => Promise<DrainResult>;
}

/** Consumers that the program starts and stops while it runs. Knows nothing of Nest. */
export class RunTimeConsumers {
  private hasRun = false;

  constructor(private readonly parts: RunTimeParts) {}

  /** True once a consumer was started. */
  get used(): boolean {
    return this.hasRun;
  }

  /** See `Stream.consume`. */
  async consume(stream: string, options: unknown, handler: unknown): Promise<RunningConsumer> {
    const { definition, stop } = await this.start(`consume of '${stream}'`, stream, options, handler);
    return {
      stream,
      group: definition.key.group,
      stop: () => stop(),
      [Symbol.asyncDispose]: async () => {
        await stop();
      },
    };
  }

  /** See `Stream.drain`. */
  async drain(stream: string, given: unknown, handler: unknown): Promise<DrainedStream> {
    const label = `drain of '${stream}'`;
    if (typeof given !== 'object' || given === null) checkKeys(label, given, []);
    const { signal, ...options } = copyOptions(label, given);
    if (signal !== undefined && !(signal instanceof AbortSignal))
      throw invalidOption(label, 'signal', signal, 'an AbortSignal');
    signal?.throwIfAborted();
    let empty = (): void => undefined;
    const drained = new Promise<void>((resolve) => {
      empty = resolve;
    });
    const { engine, clock, leaseTime } = this.parts;
    const { definition, stop } = await this.start(label, stream, options, handler, empty);
    return watchDrain({ engine, clock, leaseTime, definition, drained, stop, ...(signal ? { signal } : {}) });
  }

  private async start(
    label: string,
    stream: string,
    options: unknown,
    handler: unknown,
    drained?: () => void,
  ): Promise<Run> {
    const { engine, log, retry, scope, reserve, patterns, shutdownTimeout } = this.parts;
    if (typeof handler !== 'function') throw invalidOption(label, 'fn', handler, 'a function that takes the window');
    const resolved = resolveStreaming(label, options, retry);
    if (resolved.executor !== undefined) {
      const allowed = 'only on @Streaming: a function that is given at run time exists in this process alone';
      throw invalidOption(label, 'executor', resolved.executor, allowed);
    }
    const release = reserve(stream, resolved.group, label);
    try {
      const parts: ConsumerParts = {
        stream,
        resolved,
        label,
        emitter: await scope.emitter(label, resolved.emitter),
        another: () => scope.emitter(label, resolved.emitter),
        handler: handler as WindowHandler,
        executor: undefined,
        sinks: await scope.sinks(label, resolved.sinks),
      };
      const { keyed } = resolved;
      const definition: ConsumerDefinition = {
        ...(keyed ? keyedDefinitionOf(parts, keyed, this.parts.makeKeyed) : definitionOf(parts)),
        ...(drained && { drained }),
      };
      this.hasRun = true;
      await this.run(definition);
      log.log(bindingLine(definition));
      let stopped: Promise<DrainResult> | undefined;
      const ended = () => {
        release();
        patterns?.unname(stream);
      };
      const stop = (timeout = shutdownTimeout) => (stopped ??= engine.remove(definition.key, timeout).finally(ended));
      return { definition, stop };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Together with those that match the stream by a pattern. */
  private async run(definition: ConsumerDefinition): Promise<void> {
    const { engine, patterns } = this.parts;
    const { stream } = definition.key;
    const addMatching = await patterns?.name(stream);
    try {
      addMatching?.();
      await engine.run(definition);
    } catch (error) {
      patterns?.unname(stream);
      throw error;
    }
  }
}
