import type { OutcomeCounter } from '../sources/source-runner.js';
import type { SourceTarget } from '../sources/source.interface.js';
import { CheckpointError } from '../storage/checkpoints.js';
import type { AppendOutcome } from '../storage/stream-store.interface.js';
import { appendOptions } from './append-options.js';
import { checkOutcomes, resultOf } from './append-result.js';
import { messagesOf } from './message-list.js';
import { toStorable } from '../storage/storable.js';
import type { StoreAccess } from './store-access.js';
import type { OutgoingMessage } from './stream-operations.js';
import type { StreamWriter } from './stream-writer.js';

/** A stream as a source sees it. Its appends wait for room, and may carry the source's position. */
export function sourceTarget(
  access: StoreAccess,
  writer: StreamWriter,
  stream: string,
  source: string,
  count: OutcomeCounter,
): SourceTarget<unknown> {
  const write = async (messages: readonly OutgoingMessage[], given: unknown): Promise<readonly AppendOutcome[]> => {
    const { maxMessageBytes } = access.store;
    const position = given === undefined ? undefined : { source, position: toStorable(given, maxMessageBytes).value };
    const outcomes = await writer
      .write(stream, messages, position ? { position, waits: true } : { waits: true })
      .catch((error: unknown) => {
        if (error instanceof CheckpointError) count(error.outcomes);
        throw error;
      });
    count(outcomes);
    return outcomes;
  };
  return {
    name: stream,
    source,
    append: async (data, options = {}) => {
      const { position, ...message } = appendOptions(`append to '${stream}'`, options, 'sourceAppend');
      const [outcome] = await write([{ data, options: message }], position);
      resultOf(outcome);
    },
    appendMany: async (data, options = {}) => {
      const { position, each } = appendOptions(`appendMany to '${stream}'`, options, 'sourceAppendMany');
      const messages = messagesOf(stream, data, each);
      checkOutcomes(stream, await write(messages, position));
    },
    position: () => access.ask(`position of source ${source}`, (store) => store.readCheckpoint(stream, source)),
  };
}
