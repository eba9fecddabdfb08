import type { ICustomPartitioner, Message, Producer } from 'kafkajs';
import { type Clock, within } from '../../common/clock.js';
import { importKafkajs } from './kafka-client.js';
import type { ResolvedKafkaSink } from './kafka-sink.options.js';

/** How long a closed producer may take to say goodbye; milliseconds. */
const CLOSE_WAIT = 1000;

interface Held {
  readonly producer: Promise<Producer>;
  users: number;
  /** Nobody begins with it any more. */
  dropped: boolean;
}

/**
 * The one producer of a sink: made when it is first needed, used by several at a time, thrown away when it failed, so that the next
 * one starts afresh. kafkajs reconnects on its own, but a producer that gave up in the middle of a send can no longer be trusted.
 */
export class SharedProducer {
  private held: Held | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly writing: Pick<ResolvedKafkaSink, 'open' | 'idempotent' | 'producer'>,
    private readonly clock: Clock,
  ) {}

  /** `isHarmless` says of an error that the producer is as good as before. */
  use<R>(work: (producer: Producer) => Promise<R>, isHarmless: (error: unknown) => boolean): Promise<R> {
    if (!this.writing.idempotent) return this.run(work, isHarmless);
    // kafkajs takes back the sequence numbers of a send that failed: the next one on the same producer has them too, and the broker,
    // if it got the first after all, would acknowledge the second without storing it. So none may be in the queue behind it.
    const mine = this.last.then(() => this.run(work, isHarmless));
    this.last = mine.catch(() => undefined);
    return mine;
  }

  private async run<R>(work: (producer: Producer) => Promise<R>, isHarmless: (error: unknown) => boolean): Promise<R> {
    const held = (this.held ??= { producer: this.connect(), users: 0, dropped: false });
    held.users += 1;
    try {
      return await work(await held.producer);
    } catch (error) {
      if (!isHarmless(error)) this.drop(held);
      throw error;
    } finally {
      held.users -= 1;
      if (held.dropped && held.users === 0) void disconnect(held);
    }
  }

  /** Resolves when the connection is closed, or soon. What comes later makes a new one. */
  async close(): Promise<void> {
    const { held } = this;
    if (held === undefined) return;
    this.drop(held);
    await within(this.clock, CLOSE_WAIT, disconnect(held));
  }

  private drop(held: Held): void {
    held.dropped = true;
    if (this.held === held) this.held = undefined;
  }

  private async connect(): Promise<Producer> {
    const { open, idempotent, producer: options } = this.writing;
    const kafka = await open();
    const { createPartitioner } = options ?? {};
    const producer = kafka.producer({
      allowAutoTopicCreation: false,
      ...options,
      idempotent,
      createPartitioner: steadily(createPartitioner ?? (await importKafkajs()).Partitioners.DefaultPartitioner),
    });
    await producer.connect();
    return producer;
  }
}

async function disconnect(held: Held): Promise<void> {
  await held.producer.then((producer) => producer.disconnect()).catch(() => undefined);
}

/**
 * A record keeps its partition when kafkajs sends it again. kafkajs asks anew each time, and the answer for a record without key is
 * another one: the broker would then store it twice, and with an idempotent producer take the next record of the first partition
 * for the one it has already.
 */
function steadily(createPartitioner: ICustomPartitioner): ICustomPartitioner {
  return () => {
    const choose = createPartitioner();
    const chosen = new WeakMap<Message, number>();
    return (args) => {
      const before = chosen.get(args.message);
      if (before !== undefined) return before;
      const partition = choose(args);
      chosen.set(args.message, partition);
      return partition;
    };
  };
}
