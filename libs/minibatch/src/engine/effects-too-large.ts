import { counted } from '../common/counted.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/** What a window of a stage changes is more than is committed together: the engine makes smaller windows of its messages. */
export class EffectsTooLarge extends MinibatchError {
  constructor(
    stream: string,
    messages: number,
    readonly bytes: number,
    readonly allowed: number,
  ) {
    super(
      ErrorCode.StateTooLarge,
      `what ${counted(messages, 'message')} of '${stream}' become has ${bytes} bytes with the open windows that change; at most ${allowed} are committed together`,
      { details: { stream, messages, bytes, allowed } },
    );
  }
}
