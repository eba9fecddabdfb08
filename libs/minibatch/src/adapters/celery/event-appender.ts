import { asError } from '../../errors/error-text.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import type { MessageName, MessageProblems } from '../message-problems.js';
import { appendStorable, type Outgoing } from '../outgoing.js';
import type { ResolvedCeleryOptions } from './celery-source.options.js';
import type { CeleryEvent, DecodedBody, MalformedBody } from './event-body.js';
import type { MutableCeleryCounters } from './event-counters.js';
import { TaskMemory } from './task-memory.js';
import { eventId, taskMessage, textOf } from './task-message.js';

/** An event on its way to the stream. */
export interface IncomingMessage extends Outgoing {
  /** Why it cannot be stored, if that is known already. */
  readonly refusal?: Error;
}

/** Headers that a source adds, by what they hold. */
export const EVENT_HEADERS = {
  /** The worker or client that sent the event. */
  hostname: 'celery-hostname',
  /** When, by the sender's clock: seconds since the epoch. */
  timestamp: 'celery-timestamp',
} as const;

const BODY = 'a body';

export function nameOfIncoming({ options: { dedupeId } }: IncomingMessage): MessageName {
  return dedupeId === undefined
    ? { text: BODY, details: {} }
    : { text: `the event ${dedupeId}`, details: { event: dedupeId } };
}

/** Makes messages of what a broker delivers, and appends them. */
export class EventAppender {
  constructor(
    private readonly target: SourceTarget,
    private readonly options: Pick<ResolvedCeleryOptions, 'wanted' | 'raw' | 'malformed'>,
    private readonly memory: TaskMemory,
    private readonly problems: MessageProblems<IncomingMessage>,
    private readonly counters: MutableCeleryCounters,
  ) {}

  /** The messages of a body. What is not an event is counted and logged. Never throws: the broker's client calls it. */
  take({ events, malformed }: DecodedBody): IncomingMessage[] {
    this.counters.received += malformed.length + events.length;
    const messages = malformed.flatMap((body) => this.replaced(body) ?? []);
    for (const event of events) {
      try {
        const message = this.message(event);
        if (message) messages.push(message);
      } catch (error) {
        this.problems.malformed('skip', event, BODY, asError(error), undefined);
      }
    }
    return messages;
  }

  /** Resolves when the messages are stored, or those that cannot be are settled, so that all may be acknowledged. */
  async append(messages: readonly IncomingMessage[]): Promise<void> {
    const sound = messages.filter(({ refusal }) => refusal === undefined);
    const refused = await appendStorable(this.target, sound);
    this.counters.appended += sound.length - refused.length;
    for (const { message, error } of refused) await this.problems.unstorable(message, error);
    for (const message of messages) if (message.refusal) await this.problems.unstorable(message, message.refusal);
  }

  private message(event: CeleryEvent): IncomingMessage | undefined {
    const { type, uuid, hostname, timestamp } = event;
    const { raw, wanted } = this.options;
    const task = raw || uuid === undefined ? undefined : this.memory.learn(uuid, event);
    if (!wanted(type)) return undefined;
    if (task && task.name === undefined) this.counters.unnamed += 1;
    return {
      data: task && uuid !== undefined ? taskMessage(uuid, event, task) : event,
      options: {
        dedupeId: eventId(event),
        headers: { [EVENT_HEADERS.hostname]: textOf(hostname), [EVENT_HEADERS.timestamp]: textOf(timestamp) },
        ...(uuid === undefined ? {} : { key: uuid }),
      },
    };
  }

  /** What is appended in place of something that is not an event. */
  private replaced({ body, reason }: MalformedBody): IncomingMessage | undefined {
    try {
      const data = this.problems.malformed(this.options.malformed, body, BODY, new Error(reason), body);
      return data === undefined ? undefined : { data, options: {} };
    } catch (error) {
      return { data: body, options: {}, refusal: asError(error) };
    }
  }
}
