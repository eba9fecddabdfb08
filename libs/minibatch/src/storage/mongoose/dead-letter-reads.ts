import type { mongo } from 'mongoose';
import type { DeadLetterFilter } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { type StoredDeadLetter, toStoredDeadLetter } from './dead-letter-codec.js';
import { RawDocument } from './raw-document.js';
import type { DeadletterDocument } from './schemas/deadletter.schema.js';

/** Dead letters that match all conditions. */
export interface Selection {
  readonly stream: string;
  readonly groups?: readonly string[];
  readonly ids?: readonly string[];
  readonly before?: Date;
}

export interface DeadLetterLimits {
  readonly letters: number;
  /** As for reads of the buffer, a page ends with the letter that reaches the limit. */
  readonly bytes: number;
}

export interface DeadLetterPage {
  readonly letters: readonly StoredDeadLetter[];
  /** That were read. */
  readonly bytes: number;
  /** The id after which the next page begins; absent on the last page. */
  readonly next?: string;
}

interface Reading {
  readonly letters: readonly StoredDeadLetter[];
  readonly last: string | undefined;
  readonly full: boolean;
  readonly count: number;
  readonly bytes: number;
}

export function selectionOf(stream: string, { group, ids, before }: DeadLetterFilter): Selection {
  return {
    stream,
    ...(group === undefined ? {} : { groups: [group] }),
    ...(ids && { ids }),
    ...(before && { before }),
  };
}

/** Reads dead letters in the order of their ids. Each read is one round trip. */
export class DeadLetterReads {
  constructor(private readonly collections: Pick<Collections, 'deadletter'>) {}

  async page(
    selection: Selection,
    after: string | undefined,
    limits: DeadLetterLimits,
    projection?: mongo.Document,
  ): Promise<DeadLetterPage> {
    const { ids } = selection;
    if (ids) return this.named(selection, remaining(ids, after), limits, projection);
    const { letters, last, full, bytes } = await this.read(
      { ...conditions(selection), _id: { $gt: after ?? '' } },
      limits,
      projection,
    );
    return full && last !== undefined ? { letters, bytes, next: last } : { letters, bytes };
  }

  /**
   * Pages up to the letter that was the last one when the call began: a message that is redriven and fails again gets a greater id, and the
   * same call must not find it.
   */
  async *pages(
    selection: () => Selection | Promise<Selection>,
    limits: DeadLetterLimits,
    projection?: mongo.Document,
  ): AsyncGenerator<readonly StoredDeadLetter[]> {
    let end: string | undefined;
    for (let after: string | undefined; ;) {
      const selected = await selection();
      const { letters, next } = await this.page(selected, after, limits, projection);
      if (next !== undefined) end ??= (await this.last(selected.stream)) ?? next;
      const until = end;
      yield until === undefined ? letters : letters.filter(({ head }) => head._id <= until);
      if (next === undefined || end === undefined || next >= end) return;
      after = next;
    }
  }

  private async last(stream: string): Promise<string | undefined> {
    const options = { sort: { _id: -1 }, projection: { _id: 1 } } as const;
    return (await this.collections.deadletter.findOne({ stream, _id: { $gt: '' } }, options))?._id;
  }

  /** By ids alone, because a second condition in addition to `$in` is quadratic on some servers. The result is filtered here. */
  private async named(
    selection: Selection,
    ids: readonly string[],
    limits: DeadLetterLimits,
    projection?: mongo.Document,
  ): Promise<DeadLetterPage> {
    const now = ids.slice(0, limits.letters);
    if (now.length === 0) return { letters: [], bytes: 0 };
    const { letters, last, full, count, bytes } = await this.read({ _id: { $in: now } }, limits, projection);
    const isCut = full && count < now.length;
    const read = isCut ? last : now.length < ids.length ? now.at(-1) : undefined;
    return {
      letters: letters.filter((letter) => matches(letter, selection)),
      bytes,
      ...(read === undefined ? {} : { next: read }),
    };
  }

  /** `full`: the read ended at a limit, with the document `last`. A document that is not a letter is counted and skipped. */
  private async read(
    filter: mongo.Filter<DeadletterDocument>,
    limits: DeadLetterLimits,
    projection: mongo.Document | undefined,
  ): Promise<Reading> {
    const cursor = this.collections.deadletter
      .find(filter, { raw: true, ...(projection && { projection }) })
      .sort({ _id: 1 })
      .limit(limits.letters)
      .batchSize(limits.letters + 1);
    const letters: StoredDeadLetter[] = [];
    let last: string | undefined;
    let count = 0;
    let bytes = 0;
    for await (const buffer of cursor as mongo.FindCursor<unknown> as mongo.FindCursor<Buffer>) {
      const document = new RawDocument(buffer);
      const letter = toStoredDeadLetter(document);
      if (letter) letters.push(letter);
      // A read continues after a string only.
      last = document.get('_id') as string;
      count += 1;
      bytes += buffer.length;
      if (bytes >= limits.bytes) break;
    }
    return { letters, last, full: count >= limits.letters || bytes >= limits.bytes, count, bytes };
  }
}

function conditions({ stream, groups, before }: Selection): mongo.Filter<DeadletterDocument> {
  return { stream, ...(groups && { group: { $in: [...groups] } }), ...(before && { died: { $lt: before } }) };
}

function matches({ head: letter }: StoredDeadLetter, { stream, groups, before }: Selection): boolean {
  return (
    letter.stream === stream &&
    (groups?.includes(letter.group) ?? true) &&
    (before === undefined || letter.died < before)
  );
}

function remaining(ids: readonly string[], after: string | undefined): string[] {
  return [...new Set(ids)].filter((id) => after === undefined || id > after).toSorted();
}
