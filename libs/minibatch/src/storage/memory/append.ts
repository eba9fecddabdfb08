import { AppendError, ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { answered } from '../checkpoints.js';
import { encodeMessage } from '../encoded-message.js';
import { placeIn } from '../partitions.js';
import { sessionUnsupported } from '../../errors/store-faults.js';
import type { AppendOptions, AppendOutcome, NewMessage } from '../stream-store.interface.js';
import { storeCheckpoints } from './checkpoints.js';
import type { MemoryDatabase } from './memory.database.js';

/** @throws AppendError, CheckpointError */
export function append(
  database: MemoryDatabase,
  messages: readonly NewMessage[],
  { session, checkpoints = [] }: AppendOptions,
): readonly AppendOutcome[] {
  if (session !== undefined) throw appendError(sessionUnsupported('memory'));
  const outcomes = messages.map((message) => appendOne(database, message));
  return answered(outcomes, storeCheckpoints(database, checkpoints, outcomes));
}

function appendOne(database: MemoryDatabase, message: NewMessage): AppendOutcome {
  try {
    const encoded = encodeMessage(message);
    const stream = database.ensure(message.stream);
    const { dedupeId } = message;
    if (dedupeId !== undefined && stream.dedupe.has(dedupeId)) return { status: 'duplicate' };
    const id = database.nextId();
    stream.messages.push({
      id,
      partition: placeIn(stream.partitioning, message.partition),
      created: message.created.getTime(),
      encoded,
      ...(dedupeId !== undefined && { dedupeId }),
      doneBy: new Set(),
    });
    if (dedupeId !== undefined) stream.dedupe.set(dedupeId, { settled: undefined });
    stream.revision += 1;
    return { status: 'stored', id };
  } catch (error) {
    return { status: 'failed', error: appendError(error) };
  }
}

function appendError(error: unknown): AppendError {
  if (error instanceof AppendError) return error;
  const code = error instanceof MinibatchError ? error.code : ErrorCode.AppendFailed;
  return new AppendError(code, `append failed: ${messageOf(error)}`, 'no', { cause: error });
}
