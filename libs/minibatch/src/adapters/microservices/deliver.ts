import { Subscription } from 'rxjs';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import { isA } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf, ResultRefused } from '../../errors/minibatch.error.js';
import { show } from '../../common/checks.js';
import { withDigits } from '../../common/json-writer.js';
import type { Window } from '../../windows/window.js';
import type { ResolvedSending } from './client-proxy-sink.options.js';

/** Abandons a message that is in flight. */
export type Cancel = () => void;

/**
 * Sends one message. Resolves when the client says that it is done: with `emit` the transport has taken it, with `send` the other
 * side's handler has completed its reply.
 *
 * @param inFlight to be called when nobody waits for it any more; holds this one until it is settled
 * @throws MinibatchError `SinkFailed`
 * @throws ResultRefused if no client can send it
 */
export function deliver(
  { where, client, pattern, mode, timeout }: ResolvedSending,
  data: unknown,
  window: Pick<Window, 'id'>,
  inFlight: Set<Cancel>,
): Promise<void> {
  const message = (why: string) => {
    const named = show(typeof pattern === 'object' ? JSON.stringify(pattern) : pattern);
    return `${where}: ${mode} of ${named} for window ${window.id} failed: ${why}`;
  };
  const details = { window: window.id, pattern };
  const failed = (why: string, cause?: unknown) =>
    new MinibatchError(ErrorCode.SinkFailed, message(why), { cause, details });
  const refused = (why: string, cause?: unknown) => new ResultRefused(message(why), { cause, details });
  return new Promise((resolve, reject) => {
    if (data === null) {
      reject(refused('null can not be sent by a Nest client; return undefined to send nothing, or give map'));
      return;
    }
    let sent: unknown;
    try {
      // Clients write JSON themselves, which knows no bigint.
      sent = withDigits(data);
    } catch (error) {
      reject(refused(messageOf(error), error));
      return;
    }
    if (typeof sent === 'function' || typeof sent === 'symbol') {
      reject(refused(`a ${typeof sent} can not be sent`));
      return;
    }
    const reply = new Subscription();
    const settle = (error?: MinibatchError) => {
      cancelTimer();
      inFlight.delete(cancel);
      // The client forgets a request that nobody waits for.
      reply.unsubscribe();
      if (error === undefined) resolve();
      else reject(error);
    };
    const cancel = () => settle(failed('it was given up, for the window is no longer ours'));
    const cancelTimer = SYSTEM_CLOCK.schedule(timeout, () => {
      settle(failed(`${mode === 'send' ? 'no reply' : 'not done'} within ${timeout} ms`));
    });
    inFlight.add(cancel);
    try {
      const given = mode === 'send' ? client.send<unknown>(pattern, sent) : client.emit<unknown>(pattern, sent);
      // A handler may reply with several values, or with none.
      reply.add(
        given.subscribe({
          error: (error: unknown) => settle(failed(reasonOf(error), error)),
          complete: () => settle(),
        }),
      );
    } catch (error) {
      settle(failed(reasonOf(error), error));
    }
  });
}

/** What the other side replies with is no error but an object; some clients reject with a text, or with several errors in one. */
function reasonOf(error: unknown): string {
  if (!isA(error, AggregateError) || error.message !== '') return messageOf(error);
  return error.errors.map((each) => messageOf(each)).join('; ');
}
