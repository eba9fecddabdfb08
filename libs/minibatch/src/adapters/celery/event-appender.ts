import type { Logger } from '@nestjs/common';
import { asError, messageOf } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import { appendStorable, ask, type Outgoing } from '../outgoing.js';
import { worthALine } from '../../common/worth-a-line.js';
import type { ResolvedCeleryOptions } from './celery-source.options.js';
import type { CeleryEvent, DecodedBody, MalformedBody } from './event-body.js';
import type { Counts } from './event-counters.js';
import { TaskMemory } from './task-memory.js';
import { eventId, taskMessage, textOf } from './task-message.js';

/** An event on its way to the stream. */
export interface IncomingMessage extends Outgoing {
  /** Why it can't be stored, if that is known already. */
  readonly refusal?: Error;
}

/** Makes messages of what a broker delivers, and appends them. */
export class EventAppender {
  constructor(
    private readonly target: SourceTarget,
    private readonly options: Pick<ResolvedCeleryOptions, 'where' | 'wanted' | 'raw' | 'malformed' | 'unstorable'>,
    private readonly memory: TaskMemory,
    readonly counts: Counts,
    readonly log: Pick<Logger, 'log' | 'warn' | 'error'>,
  ) {}

  /** The messages of a body. What is no event is counted and logged. Never throws: it is called by the broker's client. */
  take({ events, malformed }: DecodedBody): IncomingMessage[] {
    const messages = malformed.flatMap((body) => this.mended(body) ?? []);
    for (const event of events) {
      try {
        const message = this.message(event);
        if (message) messages.push(message);
      } catch (error) {
        this.passedOver(messageOf(error));
      }
    }
    return messages;
  }

  /** Resolves when the messages are stored, or those that can't be are passed over, so that they may be acknowledged. */
  async append(messages: readonly IncomingMessage[]): Promise<void> {
    const sound = messages.filter(({ refusal }) => refusal === undefined);
    const refused = await appendStorable(this.target, sound);
    this.counts.appended += sound.length - refused.length;
    for (const { message, error } of refused) await this.giveUp(message, error);
    for (const message of messages) if (message.refusal) await this.giveUp(message, message.refusal);
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
        headers: { hostname: textOf(hostname), timestamp: textOf(timestamp) },
        ...(uuid === undefined ? {} : { key: uuid }),
      },
    };
  }

  /** What the user makes of something that is no event. */
  private mended({ body, reason }: MalformedBody): IncomingMessage | undefined {
    const { where, malformed } = this.options;
    this.passedOver(reason);
    if (malformed === 'skip') return undefined;
    try {
      const data = ask(where, 'malformed', () => malformed(body, new Error(reason)));
      return data === undefined ? undefined : { data, options: {} };
    } catch (error) {
      return { data: body, options: {}, refusal: asError(error) };
    }
  }

  private passedOver(reason: string): void {
    const { where, malformed } = this.options;
    this.counts.malformed += 1;
    const { malformed: count } = this.counts;
    if (!worthALine(count)) return;
    const fate = malformed === 'skip' ? 'is passed over' : 'is given to malformed';
    this.log.warn(`${where}: a body ${fate} (${count} so far): ${reason}`);
  }

  private async giveUp({ data, options }: IncomingMessage, error: Error): Promise<void> {
    const { where, unstorable } = this.options;
    if (unstorable === 'fail') throw error;
    if (unstorable !== 'skip') {
      try {
        await unstorable(data, error);
      } catch (cause) {
        throw new MinibatchError(
          ErrorCode.SourceFailed,
          `${where}: unstorable failed, and gets the same event again: ${messageOf(cause)}`,
          { cause, details: { option: 'unstorable', event: options.dedupeId } },
        );
      }
    }
    const { counts } = this;
    counts.unstorable += 1;
    if (!worthALine(counts.unstorable)) return;
    const which = options.dedupeId === undefined ? 'a body' : `the event ${options.dedupeId}`;
    const fate = unstorable === 'skip' ? 'is passed over' : 'was given to unstorable';
    this.log.error(`${where}: ${which} can't be stored and ${fate} (${counts.unstorable} so far): ${messageOf(error)}`);
  }
}
