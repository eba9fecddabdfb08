import { BatchWindow } from '../engine/batch-window.js';
import type {
  ConsumerDefinition,
  ConsumerStatus,
  DrainResult,
  Engine,
  NamedSink,
  Retention,
  Stage,
  StageChanges,
  WakeUpStatus,
} from '../engine/engine.interface.js';
import { isA } from '../errors/error-text.js';
import { ErrorCode, MinibatchError, RejectMessages } from '../errors/minibatch.error.js';
import { isRefused } from '../errors/refusal.js';
import type { GroupKey, NewMessage, StreamStore } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';
import type { Window } from '../windows/window.js';
import { SinkFaults } from './sink-faults.js';
import { VirtualClock } from './virtual-clock.js';
import { mortalStore } from './wrapped-store.js';
import type { Clock } from '../common/clock.js';

/** One run of a handler that did not throw. */
export interface RecordedWindow<R = unknown> {
  /** With its messages as they were appended, whatever the handler did to its own copy. */
  readonly window: Window;
  readonly result: R;
}

/** A message that a handler has rejected. */
export interface RecordedRejection {
  readonly message: Message;
  readonly reason: unknown;
}

/** A message that a pipeline has appended; its `dedupeId` is the store's. */
type AppendedMessage = Omit<NewMessage, 'dedupeId'>;

/** One life of the process's consumers: what belongs to an earlier one has no effect any more. */
interface Life {
  readonly engine: Engine;
  readonly kill: () => void;
  isOver: boolean;
  /** Called at its end: what it has not answered by then it never answers. */
  readonly waiting: Set<() => void>;
}

const NEVER = new Promise<never>(() => undefined);

/**
 * An engine that remembers what its handlers were given and what they returned, lets sinks fail, and can be killed: the next one then finds
 * in the store what a process that died has left there.
 */
export class RecordingEngine implements Engine {
  private readonly recorded = new Map<string, RecordedWindow[]>();
  private readonly rejections = new Map<string, Map<string, RecordedRejection>>();
  /** What the last run of each window that a stage has handled has appended. */
  private readonly appended = new Map<string, readonly AppendedMessage[]>();
  private readonly waiting = new Set<() => void>();
  private readonly definitions: ConsumerDefinition[] = [];
  private readonly retentions = new Map<string, Retention>();
  private readonly declared = new Map<string, number>();
  /** Of consumers that were started at run time, by the object that each is removed with. */
  private readonly lives = new WeakMap<GroupKey, Life>();
  private life: Life;
  private isStarted = false;
  readonly faults = new SinkFaults();

  /** @param make an engine on a store */
  constructor(
    private readonly make: (store: StreamStore) => Engine,
    private readonly store: StreamStore,
    private readonly clock: Clock,
  ) {
    this.life = this.begin();
  }

  add(definition: ConsumerDefinition): void {
    this.definitions.push(definition);
    this.life.engine.add(this.recording(definition));
  }

  /** Rejects at a restart: like all consumers that were started at run time, it ends with the process. */
  async run(definition: ConsumerDefinition): Promise<void> {
    const { life } = this;
    this.lives.set(definition.key, life);
    await whileItLasts(life, (engine) => engine.run(this.recording(definition)));
    if (!life.isOver) return;
    const what = `${definition.label}: the harness was restarted before it ran. Start it again`;
    throw new MinibatchError(ErrorCode.ShuttingDown, what);
  }

  remove(key: GroupKey, timeout: number): Promise<DrainResult> {
    // It ended with an earlier life, and another consumer may have the group now.
    if (this.lives.get(key)?.isOver) return Promise.resolve({ drained: 0, abandoned: 0 });
    return this.life.engine.remove(key, timeout);
  }

  retain(stream: string, retention: Retention): void {
    this.retentions.set(stream, retention);
    this.life.engine.retain(stream, retention);
  }

  declare(stream: string, partitions: number): void {
    this.declared.set(stream, partitions);
    this.life.engine.declare(stream, partitions);
  }

  start(): Promise<void> {
    this.isStarted = true;
    return this.life.engine.start();
  }

  /** Ends the engine as `kill -9` would, in the middle of whatever it does, and starts another one with the same consumers. */
  async restart(): Promise<void> {
    const ended = this.life;
    ended.isOver = true;
    ended.kill();
    this.life = this.begin();
    for (const [stream, retention] of this.retentions) this.life.engine.retain(stream, retention);
    for (const [stream, partitions] of this.declared) this.life.engine.declare(stream, partitions);
    for (const definition of this.definitions) this.life.engine.add(this.recording(definition));
    // From here on those who waited for the life before wait for this one.
    for (const resolve of ended.waiting) resolve();
    if (this.isStarted) await whileItLasts(this.life, (engine) => engine.start());
  }

  /** A virtual clock is moved over the time a drain may take, or a handler that hangs would hang the test. */
  async stop(timeout: number, hurry?: AbortSignal): Promise<DrainResult> {
    const stopped = this.life.engine.stop(timeout, hurry);
    if (this.clock instanceof VirtualClock) await this.clock.advance(timeout + 10_000);
    return stopped;
  }

  wake(stream: string, partition?: number): void {
    this.life.engine.wake(stream, partition);
  }

  refresh(stream: string): Promise<void> {
    return this.life.engine.refresh(stream);
  }

  status(): readonly ConsumerStatus[] {
    return this.life.engine.status();
  }

  wakeUps(): WakeUpStatus {
    return this.life.engine.wakeUps();
  }

  /** Of the life that is there when it resolves: a restart ends one that has not come to rest. */
  async settled(): Promise<void> {
    let life: Life;
    do {
      life = this.life;
      await whileItLasts(life, (engine) => engine.settled());
    } while (life.isOver);
  }

  /** Undefined if there is no such consumer. */
  windows(label: string): readonly RecordedWindow[] | undefined {
    return this.recorded.get(label);
  }

  /** Undefined if there is no such consumer. */
  rejected(label: string): readonly RecordedRejection[] | undefined {
    return this.recorded.has(label) ? [...(this.rejections.get(label)?.values() ?? [])] : undefined;
  }

  /** What pipelines have appended to the stream, window by window; each counts once, however often it was handled. */
  outputs(stream: string): readonly unknown[] {
    const all = [...this.appended.values()].flat();
    return all.filter((message) => message.stream === stream).map(({ data }) => data);
  }

  get labels(): readonly string[] {
    return [...this.recorded.keys()];
  }

  /** Resolves at the next run of a handler. */
  nextRun(): Promise<void> {
    return new Promise((resolve) => this.waiting.add(resolve));
  }

  private begin(): Life {
    const mortal = mortalStore(this.store);
    return { engine: this.make(mortal.store), kill: () => mortal.kill(), isOver: false, waiting: new Set() };
  }

  private recording(definition: ConsumerDefinition): ConsumerDefinition {
    const { label, handler, sinks, onRefused, stage } = definition;
    if (!this.recorded.has(label)) this.recorded.set(label, []);
    const { life } = this;
    return {
      ...definition,
      sinks: sinks.map((named) =>
        this.failing(named, life, (error, window) => {
          // The attempt is void: the messages are tried again in parts, or given up for another reason.
          if (onRefused === 'deadLetter' && isRefused(error)) this.forgetRejected(label, window);
        }),
      ),
      handler: async (window) => {
        const result = await this.observed(label, window, () => handler(window));
        // A process that was killed does nothing with it.
        if (life.isOver) return NEVER;
        this.handled(label, window, result);
        return result;
      },
      ...(stage && { stage: this.recordingStage(label, stage, life) }),
    };
  }

  private recordingStage(label: string, given: Stage, life: Life): Stage {
    const stage = given.withSinks?.((named) => this.failing(named, life, () => undefined)) ?? given;
    return {
      ...stage,
      run: async (window, changes, strategy) => {
        const appended: AppendedMessage[] = [];
        const noting = noticing(changes, (message) => appended.push(message));
        await this.observed(label, window, () => stage.run(window, noting, strategy));
        if (life.isOver) return NEVER;
        this.appended.set(window.id, appended);
        this.handled(label, window, undefined);
        return undefined;
      },
    };
  }

  private handled(label: string, window: Window, result: unknown): void {
    this.recorded.get(label)?.push({ window: window instanceof BatchWindow ? window.view() : window, result });
    for (const resolve of this.waiting) resolve();
    this.waiting.clear();
  }

  private failing({ name, sink }: NamedSink, life: Life, failed: (error: unknown, window: Window) => void): NamedSink {
    this.faults.know(name);
    return {
      name,
      sink: {
        put: async (result, window) => {
          if (life.isOver) return NEVER;
          try {
            this.faults.check(name);
            await sink.put(result, window);
          } catch (error) {
            failed(error, window);
            throw error;
          }
        },
      },
    };
  }

  /** Notes what the handler rejects, in either way. An attempt that fails has rejected nothing. */
  private async observed(label: string, window: Window, run: () => unknown): Promise<unknown> {
    try {
      const result = await run();
      this.noteRejected(label, window, []);
      return result;
    } catch (error) {
      if (isA(error, RejectMessages)) this.noteRejected(label, window, error.rejected);
      throw error;
    }
  }

  private forgetRejected(label: string, { messages }: Window): void {
    const rejected = this.rejections.get(label);
    for (const { id } of messages) rejected?.delete(id);
  }

  private noteRejected(label: string, window: Window, thrown: RejectMessages['rejected']): void {
    // It has timed out, or its lease is lost.
    if (window.signal.aborted) return;
    const rejected = new Map(window instanceof BatchWindow ? window.rejected : []);
    for (const { message, reason } of thrown) rejected.set(message.id, reason);
    const messages = new Map(window.messages.map((message) => [message.id, message]));
    // With a message of another window the attempt fails.
    if ([...rejected.keys()].some((id) => !messages.has(id))) return;
    const all = this.rejections.get(label) ?? new Map<string, RecordedRejection>();
    this.rejections.set(label, all);
    for (const [id, message] of messages) {
      if (rejected.has(id)) all.set(id, { message, reason: rejected.get(id) });
    }
  }
}

/** The same changes; what is appended is noticed. */
function noticing(changes: StageChanges, notice: (message: AppendedMessage) => void): StageChanges {
  return new Proxy(changes, {
    get(target, name) {
      if (name === 'append') {
        return (message: AppendedMessage) => {
          notice(message);
          target.append(message);
        };
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** Resolves when the work of an engine is done, or when its life ends before. */
function whileItLasts(life: Life, work: (engine: Engine) => Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    life.waiting.add(resolve);
    work(life.engine)
      .finally(() => life.waiting.delete(resolve))
      .then(resolve, reject);
  });
}
