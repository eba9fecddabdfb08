import { expect } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { NewMessage, StreamStore } from './stream-store.interface.js';

/** A position that cannot be stored is named in the error; the message and the other positions are stored. */
export async function expectBadPositionNamed(store: StreamStore, message: NewMessage): Promise<void> {
  const { stream } = message;
  const place = { stream, from: 0, to: 1 };
  const append = store.append([message], {
    checkpoints: [
      { ...place, source: 'bad', position: { 'a\0': 1 } },
      { ...place, source: 'good', position: 1 },
    ],
  });
  await expect(append).rejects.toMatchObject({
    code: ErrorCode.CheckpointFailed,
    outcomes: [{ status: 'stored' }],
    details: { checkpoints: [{ stream, source: 'bad' }] },
  });
  expect(await store.readCheckpoint(stream, 'good')).toBe(1);
  expect(await store.readCheckpoint(stream, 'bad')).toBeUndefined();
}
