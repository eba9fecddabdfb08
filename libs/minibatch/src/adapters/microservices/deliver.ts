import { lastValueFrom } from 'rxjs';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { show } from '../../internal/checks.js';
import type { Window } from '../../windows/window.js';
import type { ResolvedSending } from './client-proxy-sink.options.js';

/**
 * Sends one message. Resolves when the client says that it is done: with `emit` the transport has taken it, with `send` the other
 * side's handler has completed its reply.
 *
 * @param lost rejects when nobody waits for it any more
 * @throws MinibatchError `SinkFailed`
 */
export async function deliver(
  { where, client, pattern, mode, timeout }: ResolvedSending,
  data: unknown,
  window: Pick<Window, 'id'>,
  lost: Promise<never>,
): Promise<void> {
  const failed = (why: string, cause?: unknown) => {
    const named = show(typeof pattern === 'object' ? JSON.stringify(pattern) : pattern);
    const message = `${where}: ${mode} of ${named} for window ${window.id} failed: ${why}`;
    return new MinibatchError(ErrorCode.SinkFailed, message, { cause, details: { window: window.id, pattern } });
  };
  if (data === null)
    throw failed('null can not be sent by a Nest client; return undefined to send nothing, or give map');

  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const why = `${mode === 'send' ? 'no reply' : 'not done'} within ${timeout} ms`;
    timer = setTimeout(() => reject(failed(why)), timeout);
  });
  try {
    const given = mode === 'send' ? client.send<unknown>(pattern, data) : client.emit<unknown>(pattern, data);
    // A handler may reply with several values, or with none.
    await Promise.race([lastValueFrom(given, { defaultValue: undefined }), late, lost]);
  } catch (error) {
    throw error instanceof MinibatchError ? error : failed(reasonOf(error), error);
  } finally {
    clearTimeout(timer);
  }
}

/** What the other side replies with is no error but an object; some clients reject with a text, or with several errors in one. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  if (error instanceof Error || typeof error !== 'object' || error === null) return messageOf(error);
  const { message } = error as { message?: unknown };
  if (typeof message === 'string') return message;
  try {
    return JSON.stringify(error);
  } catch {
    return messageOf(error);
  }
}
