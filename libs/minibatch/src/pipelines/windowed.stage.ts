import { show } from '../common/checks.js';
import { counted } from '../common/counted.js';
import type { Mutable } from '../common/mutable.js';
import type { NamedSink, Stage, StageChanges } from '../engine/engine.interface.js';
import { codeOf, ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { copyOf } from '../flow/plain-copy.js';
import type { Entry, FailedItem, FiredWindow, Item, LateItem } from '../flow/window-logic.js';
import { toStorable } from '../storage/storable.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import type { BatchOutcome, BatchRunner } from './batch-runner.js';
import type { Continuation } from './continuation.js';
import { type Draft, draftOf } from './draft.js';
import type { Saying } from './feeder.js';
import type { Origin, Output } from './message-run.js';
import type { Prepare } from './pipeline.stage.js';
import { idOfResult, itemMessage, resultMessage, resultOf } from './window-messages.js';
import { LARGEST_ROW, type WindowWork } from './window-batch.js';
import { ROWS, type StageRun, type WindowStage } from './window-stage.js';
import type { WindowStep } from './window.plan.js';

export interface WindowedStageParts {
  readonly batches: BatchRunner;
  readonly step: WindowStep;
  /** What follows results. */
  readonly results: Continuation;
  /** What follows late messages, if `.late` is used. */
  readonly late: Continuation;
  readonly prepare: Prepare;
  /** Of a message. */
  readonly maxBytes: number;
}

const CACHE_BYTES = 64 * 1024 * 1024;
/** One result may take this part of what is committed together: with the rows of its key, it fits. */
const PARTS_OF_A_COMMIT = 2;

/** For notes to steps with windows. */
const NOTES_BYTES = 4 * 1024;

/** A stage of a pipeline that puts what messages become into windows. */
export class WindowedStage implements Stage {
  readonly values = ROWS;
  readonly cacheBytes = CACHE_BYTES;

  constructor(private readonly parts: WindowedStageParts) {}

  readonly run = async (window: Window, changes: StageChanges, strategy: WindowEmitter): Promise<void> => {
    const { batches, step, prepare } = this.parts;
    requireOnePartition(step, window.stream, changes.partitions);
    const stage = strategy as WindowStage;
    const batch = new WindowBatch(this.parts, window, changes, await batches.run(window), stage.feeder !== undefined);
    const run = await stage.run(window, changes, batch);
    const drafts = this.withNotes(window, changes, stage, batch, run).map((draft): Mutable<NewMessage> => ({
      ...draft,
    }));
    for (const [message, error] of [...batch.tooLate, ...batch.bad]) window.reject(message, error);
    await batches.deliver(window);
    if (drafts.length > 0) await prepare(drafts, window.closing);
    for (const draft of drafts) changes.append(draft);
    changes.drop(batch.dropped);
    window.signal.throwIfAborted();
    batches.end(window);
  };

  readonly givenBack = (strategy: WindowEmitter, most: number): void => (strategy as WindowStage).givenBack(most);

  /** What the batch has made, and what the steps that it brings items to have to know. */
  private withNotes(
    window: Window,
    changes: StageChanges,
    { feeder }: WindowStage,
    { outputs, made, results }: WindowBatch,
    { read, isFlushed, own }: StageRun,
  ): readonly Draft[] {
    const given = results.flatMap(({ drafts }) => drafts);
    if (!feeder) return [...outputs, ...given];
    const { step, results: continuation, maxBytes } = this.parts;
    const { results: by } = step.streams;
    const attempt = feeder.attempt();
    const saying: Saying = {
      ...{ look: changes.began, partition: window.partition, partitions: changes.partitions, maxBytes, own },
      ...{ isEmpty: window.messages.length === 0, flushed: isFlushed, gaveResults: given.length > 0 },
      // Behind results that are on their way there.
      ...((continuation.isDeferred || given.some(({ stream }) => stream === by)) && { by }),
    };
    attempt.note(made, saying.look);
    changes.whenThrough(() => attempt.through());
    return [...attempt.before(saying), ...outputs, ...given, ...attempt.behind(saying, read)];
  }

  readonly withSinks = (replace: (sink: NamedSink) => NamedSink): Stage =>
    new WindowedStage({ ...this.parts, batches: this.parts.batches.withSinks(replace) });
}

/** Messages of one key may be in several partitions of a stream that is not partitioned by the windows' keys. */
function requireOnePartition({ name, readsSource }: WindowStep, stream: string, partitions: number): void {
  if (partitions === 1) return;
  const remedy = readsSource
    ? `say defineStream('${stream}', { partitions: ${partitions} }), and give the pipeline another name; a stream should be flushed before it grows`
    : 'that stream is the pipeline’s own, and must not grow: give the pipeline another name; what is in its windows comes to nothing';
  throw new MinibatchError(
    ErrorCode.StageChanged,
    `the windows of '${name}' read '${stream}', which has ${partitions} partitions by now, and messages of a key may be in all of them: ${remedy}`,
    { details: { step: name, stream } },
  );
}

/** What one attempt at a batch comes to. */
class WindowBatch implements WindowWork {
  /** Messages to give up, and why. */
  readonly bad: Map<Message, unknown>;
  /** Messages that are given up because they are late. What was made of them beside windows is right, and stays. */
  readonly tooLate = new Map<Message, unknown>();
  /** Late ones that go nowhere. */
  dropped = 0;
  /** What late messages become. */
  private readonly lateDrafts: Draft[] = [];
  /** What results become, of one window after the other. */
  readonly results: { readonly drafts: readonly Draft[]; readonly bytes: number }[] = [];
  /** Of all but results; what messages become in the batch itself is counted when it is known which of them are bad. */
  private otherBytes: number | undefined;
  private resultBytes = 0;

  constructor(
    private readonly parts: WindowedStageParts,
    private readonly window: Window,
    private readonly changes: Pick<StageChanges, 'began' | 'costOf' | 'limit'>,
    private readonly outcome: BatchOutcome,
    private readonly feeds: boolean,
  ) {
    this.bad = new Map(outcome.bad);
  }

  readonly entries = (): readonly Entry[] => {
    const { outputs } = this.outcome;
    return this.window.messages.flatMap((message) => entriesOf(message, outputs.get(message) ?? []));
  };

  readonly fired = (fired: FiredWindow): void => {
    const { changes } = this;
    const { step, results, maxBytes } = this.parts;
    const { now } = changes.began;
    const time = fired.end === undefined ? now : step.latestIn(fired.end);
    const id = idOfResult(fired);
    const data = resultOf(fired, fired.value);
    const most = changes.limit / PARTS_OF_A_COMMIT;
    const drafts = results.run({
      data,
      message: { id, data, created: new Date(now), key: fired.key },
      time,
      ...('failed' in fired && { failed: fired.failed ?? true }),
      fits: (made) => this.costOf(made) <= most,
      toStore: () => resultMessage(step.streams.results, fired, now, Math.min(maxBytes, most)),
    });
    const bytes = this.costOf(drafts);
    this.results.push({ drafts, bytes });
    this.resultBytes += bytes;
  };

  readonly takeBack = (windows: number): void => {
    if (windows === 0) return;
    for (const { bytes } of this.results.splice(-windows)) this.resultBytes -= bytes;
  };

  readonly bytes = (): number => {
    this.otherBytes ??= this.costOf(this.outputs) + (this.feeds ? NOTES_BYTES : 0);
    return this.otherBytes + this.resultBytes;
  };

  readonly givesUp = ({ taken }: LateItem): boolean => this.parts.step.late.kind === 'deadLetter' && !taken;

  readonly late = (late: LateItem): void => {
    const { item, taken } = late;
    const { late: target, streams, name } = this.parts.step;
    // It is counted in other windows: a second time would be one too many.
    if (taken) return;
    const { message, key, time, data } = item;
    const { maxBytes } = this.parts;
    if (target.kind === 'drop') this.dropped += 1;
    else if (target.kind === 'deadLetter') this.tooLate.set(message, tooLate(name, late));
    else if (target.kind === 'flow') {
      const source = item.origin ? { ...item.origin, data } : message;
      const labels = labelsOfLate(source);
      const toStore = () =>
        this.orGiveUp(message, () => itemMessage(streams.late, { key, time, data }, labels, maxBytes));
      // What functions do to it is not stored.
      this.lateDrafts.push(...this.parts.late.run({ data: copyOf(data), message: source, time, toStore }));
    } else if (target.kind === 'stream') {
      const labels = labelsOfLate(item.origin ?? message);
      const draft = this.orGiveUp(message, () => draftOf(target.stream, data, labels, maxBytes));
      if (draft) this.lateDrafts.push(draft);
    }
  };

  private orGiveUp(message: Message, make: () => Draft): Draft | undefined {
    try {
      return make();
    } catch (error) {
      this.bad.set(message, error);
      return undefined;
    }
  }

  readonly failed = ({ item, error }: FailedItem): void => {
    this.bad.set(item.message, error);
  };

  readonly rowTooLarge = (item: Item, bytes: number): unknown => {
    const { name } = this.parts.step;
    return new MinibatchError(
      ErrorCode.StateTooLarge,
      `all that is open of key ${show(item.key)} in the windows of '${name}' would have ${bytes === Infinity ? 'many more' : bytes} bytes with it; allowed: ${LARGEST_ROW}`,
      { details: { step: name, key: item.key, bytes, most: LARGEST_ROW } },
    );
  };

  /** Of messages with which nothing is wrong. */
  get made(): readonly Output[] {
    return [...this.outcome.outputs].flatMap(([message, outputs]) => (this.bad.has(message) ? [] : outputs));
  }

  /** Of these messages, and of late ones. */
  get outputs(): readonly Draft[] {
    const drafts = this.made.flatMap((output) => (output.kind === 'message' ? [output.message] : []));
    return [...drafts, ...this.lateDrafts];
  }

  private costOf(drafts: readonly Draft[]): number {
    return drafts.reduce((sum, draft) => sum + this.changes.costOf(draft), 0);
  }
}

function entriesOf(message: Message, outputs: readonly Output[]): readonly Entry[] {
  const items = outputs.filter((output) => output.kind === 'item');
  const entries = items.map(({ kind: _kind, ...item }, index): Entry => ({
    ...item,
    id: items.length === 1 ? message.id : `${message.id}#${index}`,
    message,
    bytes: 0,
  }));
  const notes = outputs.flatMap((output) => (output.kind === 'note' ? [{ note: output.note }] : []));
  return [...entries, ...notes];
}

/** A late message is the one that was appended, in another place: with its key and all its headers. */
function labelsOfLate({ id, key, created, headers }: Origin) {
  return {
    id,
    created: created.getTime(),
    ...(key !== undefined && { key }),
    headers: headers && { ...headers },
  };
}

function tooLate(name: string, { item, windows }: LateItem): MinibatchError {
  const [first] = windows;
  const from = first ? `, the first of which ended at ${new Date(first.end).toISOString()}` : '';
  return new MinibatchError(
    ErrorCode.Late,
    `too late for ${counted(windows.length, 'window')} of '${name}'${from}: its time is ${new Date(item.time).toISOString()}`,
    { details: { step: name, key: item.key, time: item.time } },
  );
}

/** What a message failed with that can't be in what is stored of its window. */
export function stateTooLarge(name: string, most: number): (bytes: number) => MinibatchError {
  return (bytes) =>
    new MinibatchError(
      ErrorCode.StateTooLarge,
      `the accumulator of a window of '${name}' would have ${bytes} bytes with it; allowed: ${most}`,
      { details: { step: name, bytes, most } },
    );
}

/** Size as stored, in bytes. @throws MinibatchError `StateTooLarge` if it can't be stored */
export function sizeOfState(name: string): (value: unknown) => number {
  return (value) => {
    try {
      return toStorable(value).bytes;
    } catch (cause) {
      throw new MinibatchError(
        ErrorCode.StateTooLarge,
        `the accumulator of a window of '${name}' can't be stored with it: ${messageOf(cause)}`,
        { cause, details: { step: name, code: codeOf(cause, ErrorCode.NotStorable) } },
      );
    }
  };
}
