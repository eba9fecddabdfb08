import type { mongo } from 'mongoose';
import { batchesOf } from '../../common/batches.js';
import type { ConsumerKey, StateLimits, StatePage, StateRow } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, NOT_RETIRED } from './consumer-document.js';
import type { DecidedEffects } from './decided-effects.js';
import { bytesOf } from './effects-codec.js';
import type { StateDocument } from './schemas/state.schema.js';
import { dueKeys, dueOf, rowId, rowsOf, slotOf } from './state-keys.js';
import { guarded } from './store-errors.js';

/** Rows that one command asks for by their slots. */
const SLOTS = { items: 2_000, bytes: Infinity };

/** Of BSON. */
const BINARY = 5;

/** Removed rows, and what is no row, have no value. */
const ROWS = { value: { $type: BINARY } } as const;

/** Reads of the rows of consumers. The holder of a lease knows which state is the consumer's; others look into its document. */
export class StateReads {
  constructor(
    private readonly collections: Pick<Collections, 'consumer' | 'state'>,
    private readonly memory: DecidedEffects,
  ) {}

  async read(key: ConsumerKey, slots: readonly string[]): Promise<readonly StateRow[]> {
    return this.guarded(key, async (state) => {
      const ids = [...new Set(slots)].map((slot) => rowId(state, slot));
      const rows: StateRow[] = [];
      for (const { items } of batchesOf(ids, SLOTS, () => 0)) {
        const filter = { _id: { $in: [...items] }, ...ROWS };
        const found = await this.collections.state.find(filter, { batchSize: items.length + 1 }).toArray();
        rows.push(...found.map(toRow));
      }
      return rows;
    });
  }

  async due(
    key: ConsumerKey,
    before: Date,
    after: Pick<StateRow, 'slot' | 'due'> | undefined,
    limits: StateLimits,
  ): Promise<readonly StateRow[]> {
    return this.guarded(key, async (state) => {
      const filter = { dueKey: dueKeys(state, before, after), ...ROWS };
      return (await this.page(filter, { dueKey: 1 }, limits)).rows;
    });
  }

  async list(key: ConsumerKey, after: string | undefined, limits: StateLimits): Promise<StatePage> {
    const page = await this.guarded(key, async (state) => {
      const { rows, isLast } = await this.page({ _id: rowsOf(state, after), ...ROWS }, { _id: 1 }, limits);
      const last = rows.at(-1);
      return [{ rows, ...(last && !isLast && { next: last.slot }) }];
    });
    return page[0] ?? { rows: [] };
  }

  private async page(
    filter: mongo.Filter<StateDocument>,
    sort: mongo.Sort,
    { rows: most, bytes: mostBytes }: StateLimits,
  ): Promise<{ rows: StateRow[]; isLast: boolean }> {
    const limit = Math.min(most, MOST_ROWS) + 1;
    const cursor = this.collections.state.find(filter, { limit, batchSize: limit + 1 }).sort(sort);
    const rows: StateRow[] = [];
    let bytes = 0;
    // Leaving the loop closes the cursor.
    for await (const document of cursor) {
      bytes += document.value?.length() ?? 0;
      if (rows.length > 0 && (rows.length + 1 === limit || bytes > mostBytes)) return { rows, isLast: false };
      rows.push(toRow(document));
    }
    return { rows, isLast: true };
  }

  /** Nothing for a consumer without state. */
  private async guarded<R>(key: ConsumerKey, read: (state: string) => Promise<readonly R[]>): Promise<readonly R[]> {
    return guarded(`read the state of '${key.group}' on '${key.stream}'`, async () => {
      const known = this.memory.stateOf(key);
      const state = known === undefined ? await this.find(key) : known;
      return state ? read(state) : [];
    });
  }

  private async find(key: ConsumerKey): Promise<string | undefined> {
    const filter = { _id: consumerDocumentId(key), ...NOT_RETIRED };
    const found = await this.collections.consumer.findOne(filter, { projection: { stateId: 1 } });
    return found?.stateId?.toHexString();
  }
}

/** Of one page, whatever is asked for: a server counts in 32 bits. */
const MOST_ROWS = 1_000_000;

/** A copy of the value: otherwise one row that somebody holds on to would keep a whole reply in memory. */
function toRow({ _id, value, dueKey }: StateDocument): StateRow {
  const bytes = value ? new Uint8Array(bytesOf(value)) : new Uint8Array();
  return { slot: slotOf(_id), value: bytes, ...(dueKey !== undefined && { due: dueOf(dueKey) }) };
}
