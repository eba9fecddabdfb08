import { createHash } from 'node:crypto';
import { type FailedCheckpoint, isDue } from '../checkpoints.js';
import { decodeValue, encodeValue } from '../encoded-message.js';
import type { AppendOutcome, Checkpoint } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { statement, STREAM } from './sql.js';

const READ = statement(`select position from minibatch.checkpoint where stream = ${STREAM} and source = $2`);
/** @param values SQL of the streams, the sources and the positions */
export function positionsSql(values: string, condition = 'true'): string {
  return `insert into minibatch.checkpoint (stream, source, position)
    select s.id, c.source, c.position from unnest(${values}) c(stream, source, position)
    join minibatch.stream s on s.name = c.stream where ${condition}
    on conflict (stream, source) do update set position = excluded.position`;
}

export const WRITE_CHECKPOINTS = statement(positionsSql('$1::text[], $2::bytea[], $3::bytea[]'));

/** The positions of one append, encoded before anything is written. */
export class EncodedCheckpoints {
  private readonly encoded: { readonly checkpoint: Checkpoint; readonly bytes: Buffer }[] = [];
  private readonly refused: FailedCheckpoint[] = [];

  constructor(checkpoints: readonly Checkpoint[]) {
    for (const checkpoint of checkpoints) {
      try {
        this.encoded.push({ checkpoint, bytes: encodeValue(checkpoint.position) });
      } catch (error) {
        this.refused.push({ checkpoint, error });
      }
    }
  }

  get streams(): readonly string[] {
    return this.encoded.map(({ checkpoint }) => checkpoint.stream);
  }

  /** Those that are due, the last one of each source. */
  due(outcomes: readonly AppendOutcome[]): readonly Checkpoint[] {
    return [...this.last(outcomes).values()].map(({ checkpoint }) => checkpoint);
  }

  /** The values of `WRITE_CHECKPOINTS`; undefined if none is due. */
  values(outcomes: readonly AppendOutcome[]): readonly unknown[] | undefined {
    const due = [...this.last(outcomes).values()];
    if (due.length === 0) return undefined;
    return [
      due.map(({ checkpoint }) => checkpoint.stream),
      due.map(({ checkpoint }) => sourceKey(checkpoint.source)),
      due.map(({ bytes }) => bytes),
    ];
  }

  failed(outcomes: readonly AppendOutcome[]): readonly FailedCheckpoint[] {
    return this.refused.filter(({ checkpoint }) => isDue(checkpoint, outcomes));
  }

  private last(outcomes: readonly AppendOutcome[]) {
    const last = new Map<string, { readonly checkpoint: Checkpoint; readonly bytes: Buffer }>();
    for (const each of this.encoded) {
      if (isDue(each.checkpoint, outcomes)) last.set(`${each.checkpoint.stream}\0${each.checkpoint.source}`, each);
    }
    return last;
  }
}

/** Undefined if there is none. */
export async function readCheckpoint(database: Database, stream: string, source: string): Promise<unknown> {
  const [row] = await database.query<{ position: Buffer }>('read a position', READ, [stream, sourceKey(source)]);
  return row && decodeValue(row.position);
}

/** Names of sources have no limit, keys of an index have one. */
function sourceKey(source: string): Buffer {
  return createHash('sha256').update(source).digest();
}
