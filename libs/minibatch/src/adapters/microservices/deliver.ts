import { Subscription } from 'rxjs';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import { isA } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf, ResultRefused } from '../../errors/minibatch.error.js';
import { show } from '../../common/checks.js';
import { withDigits } from '../../common/json-writer.js';
import type { Window } from '../../windows/window.js';
import { FailureReason } from '../failure-reason.js';
import { refuseWindow } from '../returned-window.js';
import type { ResolvedSending } from './client-proxy-sink.options.js';

/** Abandons a message that is in flight. */
export type Cancel = () => void;

/**
 * Sends one message. Resolves when the client says that it is done: with `emit` the transport has taken it, with `send` the other
 * side's handler has completed its reply.
 *
 * @param inFlight holds this message's `Cancel` until it is settled
 * @throws MinibatchError `SinkFailed`
 * @throws ResultRefused if no client can send it
 */
export function deliver(
  sending: ResolvedSending,
  data: unknown,
  window: Pick<Window, 'id'>,
  inFlight: Set<Cancel>,
): Promise<void> {
  const { client, pattern, mode, timeout } = sending;
  const { failed, refused } = failuresOf(sending, window);
  return new Promise((resolve, reject) => {
    if (data === null) {
      reject(refused('null cannot be sent by a Nest client; return undefined to send nothing, or give map'));
      return;
    }
    let sent: unknown;
    try {
      refuseWindow(data);
      // Clients write JSON themselves, which has no bigint.
      sent = withDigits(data);
    } catch (error) {
      reject(refused(messageOf(error), error));
      return;
    }
    if (typeof sent === 'function' || typeof sent === 'symbol') {
      reject(refused(`a ${typeof sent} cannot be sent`));
      return;
    }
    const reply = new Subscription();
    const settle = (error?: MinibatchError) => {
      cancelTimer();
      inFlight.delete(cancel);
      // The client drops a request that nobody waits for.
      reply.unsubscribe();
      if (error === undefined) resolve();
      else reject(error);
    };
    const cancel = () =>
      settle(failed('it was cancelled: the window is no longer held by this process', FailureReason.Aborted));
    const cancelTimer = SYSTEM_CLOCK.schedule(timeout, () => {
      settle(failed(`${mode === 'send' ? 'no reply' : 'not done'} within ${timeout} ms`, FailureReason.Timeout));
    });
    inFlight.add(cancel);
    try {
      const given = mode === 'send' ? client.send<unknown>(pattern, sent) : client.emit<unknown>(pattern, sent);
      // A handler may reply with several values, or with none.
      reply.add(
        given.subscribe({
          error: (error: unknown) => settle(failed(reasonOf(error), FailureReason.NotWritten, error)),
          complete: () => settle(),
        }),
      );
    } catch (error) {
      settle(failed(reasonOf(error), FailureReason.NotWritten, error));
    }
  });
}

function failuresOf({ where, pattern, mode }: ResolvedSending, window: Pick<Window, 'id'>) {
  const message = (why: string) => {
    const named = show(typeof pattern === 'object' ? JSON.stringify(pattern) : pattern);
    return `${where}: ${mode} of ${named} for window ${window.id} failed: ${why}`;
  };
  const detailsOf = (reason: FailureReason) => ({ reason, window: window.id, pattern });
  return {
    failed: (why: string, reason: FailureReason, cause?: unknown) =>
      new MinibatchError(ErrorCode.SinkFailed, message(why), { cause, details: detailsOf(reason) }),
    refused: (why: string, cause?: unknown) =>
      new ResultRefused(message(why), { cause, details: detailsOf(FailureReason.Unencodable) }),
  };
}

/** The other side replies with an object, not an error; some clients reject with a text, or with several errors in one. */
function reasonOf(error: unknown): string {
  if (!isA(error, AggregateError) || error.message !== '') return messageOf(error);
  return error.errors.map((each) => messageOf(each)).join('; ');
}
