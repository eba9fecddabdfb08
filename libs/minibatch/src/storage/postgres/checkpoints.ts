import { createHash } from 'node:crypto';
import type { EncodedCheckpoint } from '../encoded-checkpoints.js';
import { decodeValue } from '../encoded-message.js';
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

/** The values of `WRITE_CHECKPOINTS`; undefined if there is nothing to write. */
export function positionValues(due: readonly EncodedCheckpoint[]): readonly unknown[] | undefined {
  if (due.length === 0) return undefined;
  return [
    due.map(({ checkpoint }) => checkpoint.stream),
    due.map(({ checkpoint }) => sourceKey(checkpoint.source)),
    due.map(({ bytes }) => bytes),
  ];
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
