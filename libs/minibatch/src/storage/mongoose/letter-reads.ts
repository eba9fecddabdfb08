import type { mongo } from 'mongoose';
import type { DeadLetterFilter } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { decode, int64Of, RawDocument } from './raw-document.js';
import type { DeadletterDocument } from './schemas/deadletter.schema.js';

/** Letters that match all that is given. */
export interface Selection {
  readonly stream: string;
  readonly groups?: readonly string[];
  readonly ids?: readonly string[];
  readonly before?: Date;
}

export interface LetterLimits {
  readonly letters: number;
  /** As of the buffer: a page ends with the letter that reaches it. */
  readonly bytes: number;
}

export interface LetterPage {
  readonly letters: readonly DeadletterDocument[];
  /** After which id the next page begins; absent on the last one. */
  readonly next?: string;
}

export function selectionOf(stream: string, { group, ids, before }: DeadLetterFilter): Selection {
  return {
    stream,
    ...(group === undefined ? {} : { groups: [group] }),
    ...(ids && { ids }),
    ...(before && { before }),
  };
}

/** Reads of dead letters, in the order of their ids; each is one round trip. */
export class LetterReads {
  constructor(private readonly collections: Collections) {}

  async page(
    selection: Selection,
    after: string | undefined,
    limits: LetterLimits,
    projection?: mongo.Document,
  ): Promise<LetterPage> {
    const { ids } = selection;
    if (ids) return this.named(selection, remaining(ids, after), limits, projection);
    const filter = { ...conditions(selection), ...(after !== undefined && { _id: { $gt: after } }) };
    const page = await this.read(filter, limits, projection);
    const last = page.letters.at(-1);
    return page.letters.length < limits.letters || !last ? page : { ...page, next: last._id };
  }

  /**
   * Pages up to the letter that is the last one at the beginning: a message that is redriven and dies again has a greater id, and
   * must not be found by the same call.
   */
  async *pages(
    selection: () => Selection | Promise<Selection>,
    limits: LetterLimits,
    projection?: mongo.Document,
  ): AsyncGenerator<readonly DeadletterDocument[]> {
    let end: string | undefined;
    for (let after: string | undefined; ;) {
      const selected = await selection();
      const { letters, next } = await this.page(selected, after, limits, projection);
      if (next !== undefined) end ??= (await this.last(selected.stream)) ?? next;
      const until = end;
      yield until === undefined ? letters : letters.filter(({ _id }) => _id <= until);
      if (next === undefined || end === undefined || next >= end) return;
      after = next;
    }
  }

  private async last(stream: string): Promise<string | undefined> {
    const options = { sort: { _id: -1 }, projection: { _id: 1 } } as const;
    return (await this.collections.deadletter.findOne({ stream }, options))?._id;
  }

  /** By ids alone: a second condition beside `$in` makes some servers quadratic. The rest is left out here. */
  private async named(
    selection: Selection,
    ids: readonly string[],
    limits: LetterLimits,
    projection?: mongo.Document,
  ): Promise<LetterPage> {
    const now = ids.slice(0, limits.letters);
    if (now.length === 0) return { letters: [] };
    const { letters, next } = await this.read({ _id: { $in: now } }, limits, projection);
    const read = next ?? (now.length < ids.length ? now.at(-1) : undefined);
    return {
      letters: letters.filter((letter) => matches(letter, selection)),
      ...(read === undefined ? {} : { next: read }),
    };
  }

  private async read(
    filter: mongo.Filter<DeadletterDocument>,
    limits: LetterLimits,
    projection: mongo.Document | undefined,
  ): Promise<LetterPage> {
    const cursor = this.collections.deadletter
      .find(filter, { raw: true, ...(projection && { projection }) })
      .sort({ _id: 1 })
      .limit(limits.letters)
      .batchSize(limits.letters + 1);
    const letters: DeadletterDocument[] = [];
    let bytes = 0;
    for await (const document of cursor as mongo.FindCursor<unknown> as mongo.FindCursor<Buffer>) {
      const letter = decode<DeadletterDocument>(document, int64Of(new RawDocument(document)));
      letters.push(letter);
      bytes += document.length;
      if (bytes >= limits.bytes) return { letters, next: letter._id };
    }
    return { letters };
  }
}

function conditions({ stream, groups, before }: Selection): mongo.Filter<DeadletterDocument> {
  return { stream, ...(groups && { group: { $in: [...groups] } }), ...(before && { died: { $lt: before } }) };
}

function matches(letter: DeadletterDocument, { stream, groups, before }: Selection): boolean {
  return (
    letter.stream === stream &&
    (groups?.includes(letter.group) ?? true) &&
    (before === undefined || letter.died < before)
  );
}

function remaining(ids: readonly string[], after: string | undefined): string[] {
  return [...new Set(ids)].filter((id) => after === undefined || id > after).toSorted();
}
