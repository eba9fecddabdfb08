import { type MessagePort, MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import type { Clock } from '../../common/clock.js';
import { messageOf } from '../../errors/error-text.js';
import { ExecutorUnavailable, WorkerLost } from '../../errors/executor-errors.js';
import type { WindowTask } from '../executor.interface.js';
import type { ThreadOrder, ThreadReply } from './messages.js';
import type { Pool } from './pool.js';

/** One task in a pool, from its call to its answer or to the death of its thread. */
export class ThreadRun {
  private readonly kill = new AbortController();
  private readonly port: MessagePort;
  private readonly remote: MessagePort;
  private readonly settled: Promise<ThreadReply>;
  private settle!: (reply: ThreadReply) => void;
  private hasStarted = false;
  /** Resolves when nothing of it is left. */
  readonly ended: Promise<void>;
  /** Nothing of it is left. */
  readonly end: () => void;
  private cancel: (() => void) | undefined;

  /** @param onStart called when a thread begins with the task */
  constructor(
    private readonly clock: Clock,
    private readonly terminateAfter: number,
    private readonly onStart: () => void = () => undefined,
  ) {
    let end = (): void => undefined;
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.end = end;
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    this.remote = port2;
    this.settled = new Promise((resolve) => {
      this.settle = resolve;
    });
    port1.on('message', (reply: ThreadReply) => this.received(reply));
    // A task that runs keeps the process alive by its thread.
    port1.unref();
  }

  /** @throws WorkerLost if the thread dies after it has begun, ExecutorUnavailable if it dies before */
  async run(pool: Pool, bytes: Uint8Array | undefined): Promise<ThreadReply> {
    const { remote, kill } = this;
    const transferList = [remote, ...(bytes ? [bytes.buffer] : [])];
    try {
      const ran = pool.run({ bytes, port: remote }, { transferList, signal: kill.signal });
      return await Promise.race([this.settled, ran.then(() => this.settled)]);
    } catch (cause) {
      return this.lastWord() ?? this.lost(cause);
    } finally {
      this.cancel?.();
      this.port.close();
    }
  }

  /** Aborts the window's signals when the task's do; a method that does not end then is ended with its thread. */
  follow(task: WindowTask): () => void {
    const { closing } = task.window;
    const abort = () => this.abort(messageOf(task.signal.reason));
    const close = () => this.order({ kind: 'close', reason: messageOf(closing.reason) });
    task.signal.addEventListener('abort', abort, { once: true });
    closing.addEventListener('abort', close, { once: true });
    if (task.signal.aborted) abort();
    else if (closing.aborted) close();
    return () => {
      task.signal.removeEventListener('abort', abort);
      closing.removeEventListener('abort', close);
    };
  }

  /** The thread ends, now. */
  terminate(): void {
    this.kill.abort();
  }

  private abort(reason: string): void {
    if (!this.hasStarted) this.terminate();
    this.order({ kind: 'abort', reason });
    this.cancel ??= this.clock.schedule(this.terminateAfter, () => this.terminate());
  }

  private order(order: ThreadOrder): void {
    this.port.postMessage(order);
  }

  private received(reply: ThreadReply): void {
    if (reply.kind !== 'started') {
      this.settle(reply);
      return;
    }
    if (this.hasStarted) return;
    this.hasStarted = true;
    this.onStart();
  }

  /** What the thread has said before it died, and the event loop has not brought yet. */
  private lastWord(): ThreadReply | undefined {
    for (;;) {
      const received = receiveMessageOnPort(this.port) as { message: ThreadReply } | undefined;
      if (!received) return undefined;
      if (received.message.kind !== 'started') return received.message;
      this.received(received.message);
    }
  }

  private lost(cause: unknown): never {
    const text = this.kill.signal.aborted ? 'it was terminated' : messageOf(cause);
    if (this.hasStarted) throw new WorkerLost(`a worker thread ended while it ran a window: ${text}`, { cause });
    throw new ExecutorUnavailable(`a worker thread ended before it began: ${text}`, { cause });
  }
}
