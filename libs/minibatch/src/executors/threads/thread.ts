/** What each thread runs: it loads the application's file once, and hands it one task after another. */
import { workerData } from 'node:worker_threads';
import { BACKGROUND_CLOCK } from '../../common/clock.js';
import { messageOf } from '../../errors/error-text.js';
import { notReady } from '../task-runner.js';
import { WORKER } from '../worker-mark.js';
import {
  bootsTooLong,
  type ThreadData,
  type ThreadOrder,
  type ThreadReply,
  type ThreadTask,
  type ThreadWorker,
} from './messages.js';

const data = workerData as ThreadData;
const booted = Promise.race([boot(), late()]);
// Each task is told.
booted.catch(() => undefined);

async function boot(): Promise<ThreadWorker> {
  await import(data.worker);
  const worker = (globalThis as { [WORKER]?: Promise<ThreadWorker> })[WORKER];
  if (!worker) throw new Error(`${data.worker} does not call runMinibatchWorker(WorkerModule)`);
  return worker;
}

/** Rejects when the time to boot is over. What blocks this event loop, the main thread has to end. */
function late(): Promise<never> {
  const { startTimeout } = data;
  return new Promise((_, reject) => {
    BACKGROUND_CLOCK.schedule(startTimeout, () => reject(new Error(bootsTooLong(startTimeout))));
  });
}

/** Called by the pool, once for each task. Never rejects. */
export default async function run({ bytes, port }: ThreadTask): Promise<void> {
  const reply = (message: ThreadReply, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);
  let worker: ThreadWorker;
  try {
    worker = await booted;
  } catch (error) {
    if (bytes) reply({ kind: 'answer', bytes: notReady(error) });
    else reply({ kind: 'failed', message: messageOf(error) });
    // A file is loaded once: only another thread can try again. At once, or the pool would give this one another task.
    return process.exit(1);
  }
  if (!bytes) {
    reply({ kind: 'ready', consumers: worker.consumers });
    return;
  }
  const [abort, close] = [new AbortController(), new AbortController()];
  port.on('message', ({ kind, reason }: ThreadOrder) => (kind === 'abort' ? abort : close).abort(new Error(reason)));
  abort.signal.addEventListener('abort', () => close.abort(abort.signal.reason), { once: true });
  reply({ kind: 'started' });
  const { maxResultBytes } = data;
  const answer = await worker.handle(bytes, { signal: abort.signal, closing: close.signal, maxResultBytes });
  port.removeAllListeners('message');
  reply({ kind: 'answer', bytes: answer }, [answer.buffer as ArrayBuffer]);
}
