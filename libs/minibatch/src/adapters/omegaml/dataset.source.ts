import { ErrorCode } from '../../errors/minibatch.error.js';
import { delay, SYSTEM_CLOCK } from '../../common/clock.js';
import { CollectionSource } from '../collection/collection.source.js';
import { type DatasetSourceOptions, resolveDatasetReading } from './dataset-source.options.js';
import { type Dataset, Metadata } from './metadata.js';
import { rowOf } from './rows.js';

/**
 * Feeds a stream with the rows of a dataset of omega|ml: those that are there, then those that are appended, in Python by
 * `om.datasets.put(…)` or by anybody else.
 *
 * A message is what Python's `om.datasets.get` would show: the fields of a `pandas.rawdict`, the value of a `python.data`, the columns of a
 * `pandas.dfrows` with those of its index that have a name.
 *
 * Everything that holds for {@link CollectionSource} holds here: a change stream or a cursor, a stored position, nothing skipped. A
 * cursor follows `_id`, which Python makes of ObjectIds; a dataset that a `DatasetSink` fills has other ids, and needs a server with change
 * streams (or `field`).
 *
 * The metadata are read at each start of the source. When Python drops a dataset of one kind and makes one of another kind while it runs,
 * it has to be started again.
 *
 * @typeParam T the stream's messages
 * @typeParam R the dataset's rows
 * @example
 * ```ts
 * @StreamSource('flights')
 * export class FlightDataset extends DatasetSource<Flight> {
 *   constructor(@InjectConnection('omega') connection: Connection) {
 *     super({ connection, dataset: 'flights/2026' });
 *   }
 * }
 * ```
 */
export class DatasetSource<T = unknown, R = T> extends CollectionSource<T> {
  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: DatasetSourceOptions<T, R>) {
    const where = new.target.name;
    const { ref, missing, pollInterval, map, key, reading } = resolveDatasetReading(where, options);
    const metadata = new Metadata(where, ref, ErrorCode.SourceFailed);
    let found: Dataset | undefined;
    // It is found before the first document is read.
    const row = (document: object) => (found ? rowOf(found, document) : document) as R;
    super({
      ...reading,
      connection: ref.connection,
      collection: async (signal, clock = SYSTEM_CLOCK) => {
        found = await search(metadata, missing, signal, () => delay(clock, pollInterval, signal));
        return found.collection;
      },
      map: (document) => map(row(document), document),
      ...(key && { key: (document) => key(row(document)) }),
    });
  }
}

/** @throws MinibatchError `UnknownDataset`, `WrongDataset` */
async function search(
  metadata: Metadata,
  missing: 'wait' | 'fail',
  signal: AbortSignal | undefined,
  pause: () => Promise<void>,
): Promise<Dataset> {
  for (;;) {
    const found = await metadata.find(signal);
    if (found) return found;
    if (missing === 'fail') {
      throw metadata.unknown(`create it with om.datasets.put(…) in Python, or set missing: 'wait' to wait for it`);
    }
    if (signal?.aborted) throw metadata.unknown('it was waited for until the source was stopped');
    await pause();
  }
}
