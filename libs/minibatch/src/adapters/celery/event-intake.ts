import type { Logger } from '@nestjs/common';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { SourceAppendOptions, SourceTarget } from '../../sources/source.interface.js';
import type { ResolvedCeleryOptions } from './celery-source.options.js';
import type { CeleryEvent, DecodedBody } from './event-body.js';
import { type Counts, worthALine } from './event-counters.js';
import { TaskMemory } from './task-memory.js';
import { eventId, taskMessage } from './task-message.js';

/** An event on its way to the stream. */
export interface IncomingMessage {
  readonly data: unknown;
  readonly options: Omit<SourceAppendOptions, 'position'>;
}

/** Makes messages of what a broker delivers, and appends them. */
export class EventIntake {
  constructor(
    private readonly target: SourceTarget,
    private readonly options: Pick<ResolvedCeleryOptions, 'where' | 'wanted' | 'raw' | 'unstorable'>,
    private readonly memory: TaskMemory,
    readonly counts: Counts,
    readonly log: Pick<Logger, 'log' | 'warn' | 'error'>,
  ) {}

  /** The messages of a body. What is no event is counted, logged and passed over. */
  take({ events, malformed }: DecodedBody): IncomingMessage[] {
    for (const reason of malformed) {
      this.counts.malformed += 1;
      if (!worthALine(this.counts.malformed)) continue;
      this.log.warn(`${this.options.where}: a body is passed over (${this.counts.malformed} so far): ${reason}`);
    }
    return events.flatMap((event) => this.message(event) ?? []);
  }

  /** Resolves when the messages are stored, or those that can't be are passed over, so that they may be acknowledged. */
  async append(messages: readonly IncomingMessage[]): Promise<void> {
    if (messages.length === 0) return;
    try {
      await this.target.appendMany(
        messages.map(({ data }) => data),
        { each: (_, index) => messages[index]?.options ?? {} },
      );
      this.counts.appended += messages.length;
    } catch (error) {
      if (!isUnstorable(error) || this.options.unstorable === 'fail') throw error;
      // What was stored already is ignored for its dedupe id.
      await Promise.all(messages.map((message) => this.appendAlone(message)));
    }
  }

  private message(event: CeleryEvent): IncomingMessage | undefined {
    this.counts.received += 1;
    const { type, uuid, hostname, timestamp } = event;
    const { raw, wanted } = this.options;
    const task = raw || uuid === undefined ? undefined : this.memory.learn(uuid, event);
    if (!wanted(type)) return undefined;
    if (task && task.name === undefined) this.counts.unnamed += 1;
    return {
      data: task && uuid !== undefined ? taskMessage(uuid, event, task) : event,
      options: {
        dedupeId: eventId(event),
        headers: { hostname: String(hostname), timestamp: String(timestamp) },
        ...(uuid === undefined ? {} : { key: uuid }),
      },
    };
  }

  private async appendAlone({ data, options }: IncomingMessage): Promise<void> {
    const { counts } = this;
    try {
      await this.target.append(data, options);
      counts.appended += 1;
    } catch (error) {
      if (!isUnstorable(error)) throw error;
      counts.unstorable += 1;
      const line = `${this.options.where}: the event ${options.dedupeId} can't be stored and is passed over (${counts.unstorable} so far): ${messageOf(error)}`;
      if (worthALine(counts.unstorable)) this.log.error(line);
    }
  }
}

/** It will not be storable at the next try either. */
function isUnstorable(error: unknown): boolean {
  if (!(error instanceof MinibatchError)) return false;
  return error.code === ErrorCode.MessageTooLarge || error.code === ErrorCode.NotStorable;
}
