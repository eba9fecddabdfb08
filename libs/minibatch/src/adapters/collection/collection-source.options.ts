import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Document } from 'bson';
import type { StringValue } from 'ms';
import { checkBoolean, checkDuration, checkInteger, checkOptions, invalidOption, show } from '../../common/checks.js';
import type { Clock } from '../../common/clock.js';
import type { Log } from '../../common/log.js';
import { checkFunction, checkOneOf, checkPolicy, type UnstorablePolicy } from '../policies.js';
import { checkFilter, checkProjection } from './change-pipeline.js';
import type { CollectionFilter } from './collection-filter.js';
import { COLLECTION_REF_KEYS, checkCollectionRef, type CollectionRef, type OpenCollection } from './collection-ref.js';

/**
 * The collection is read from the primary, because a secondary shows documents late, and with the driver's usual conversions,
 * because positions and ids are compared.
 */
const READING = {
  readPreference: 'primary',
  promoteValues: true,
  promoteLongs: true,
  promoteBuffers: false,
  useBigInt64: false,
  raw: false,
} as const;

/** Changes of a document that become messages. */
export type CollectionOperation = 'insert' | 'update' | 'replace';

export type LostTokenPolicy = 'fail' | 'snapshot' | 'now';

/**
 * How the collection is followed. @typeParam T the messages. @typeParam D the collection's documents
 */
export interface CollectionReading<T = unknown, D extends Document = Document> {
  /**
   * - `'changeStream'`: the server tells what changes; it must be a replica set or a sharded cluster
   * - `'cursor'`: the collection is asked for documents with a larger `field`; sees new documents only
   * - `'auto'`: a change stream where the server has one and no `field` is given, otherwise the cursor
   *
   * @default 'auto'
   */
  readonly mode?: 'auto' | 'changeStream' | 'cursor';
  /**
   * What becomes a message; others than `'insert'` need a change stream. An update gives the document as it is when the event
   * is read, so of several quick ones each may show the last.
   *
   * @default ['insert']
   */
  readonly operations?: readonly CollectionOperation[];
  /**
   * The field that the cursor follows: its values must grow from document to document (ObjectIds, dates, numbers; strings if
   * you name the field), be of one kind, and the field needs an index. Documents without it are not read. With `_id` a document is one
   * message, with another field one for each value: `updatedAt` gives changed documents again.
   *
   * @default '_id'
   */
  readonly field?: string;
  /**
   * How much later than others with larger values a document may turn up: the sum of what the writers' clocks differ by and what
   * a write takes. Such documents are looked for again and again; the smaller it is, the less is read twice. Milliseconds, or a string
   * like `'10s'`.
   *
   * @default '10s'
   */
  readonly lookBack?: Duration;
  /**
   * Longest wait between two looks at the collection while nothing comes, and between two look-backs once its end was
   * reached; before that, the look-back itself. Milliseconds, at least 10, or a string like `'1s'`.
   *
   * @default '1s'
   */
  readonly pollInterval?: Duration;
  /** Documents that are read and appended at a time. @default 500 */
  readonly batch?: number;
  /** True: what is in the collection at the first start comes first. False: only what comes after it. @default true */
  readonly snapshot?: boolean;
  /**
   * What to do when the stored position cannot be resumed: the server has forgotten what came after it, it belongs to
   * another collection or mode.
   *
   * - `'fail'`: an error that says what to do, until somebody does
   * - `'snapshot'`: reads the whole collection again: documents come twice, but for those that the stream remembers by the dedupe ids of
   *   an earlier snapshot or cursor
   * - `'now'`: continues with new changes; what came since the position is left out
   *
   * Only an answer of the server that says so decides; after any other error the same position is retried. What is skipped or
   * repeated is said in the log.
   *
   * @default 'fail'
   */
  readonly onLostToken?: LostTokenPolicy;
  /** Only these documents: conditions on fields, joined by `$and`, `$or` and `$nor`, so that a change stream can have them too. @default all */
  readonly filter?: CollectionFilter<D>;
  /** Only these fields (1), or all but these (0). `_id` and the cursor's field always come along. @default all */
  readonly projection?: Readonly<Record<string, 0 | 1>>;
  /** Makes the message of a document; undefined leaves it out. @default the document */
  readonly map?: (document: D) => T | undefined;
  /** The message's key. @default none */
  readonly key?: (document: D) => string | undefined;
  /**
   * A document that the stream cannot take: too large, nested too deep, with a value or a key that cannot be stored; one for which `map` or
   * `key` throws; or one that cannot be decoded, as with text that is not UTF-8. See {@link UnstorablePolicy}. Of a document that cannot be
   * decoded a function gets the fields that can be, from a change stream its `_id`.
   *
   * @default 'skip'
   */
  readonly unstorable?: UnstorablePolicy<D>;
}

/** A number of milliseconds, or a string like `'5s'`. */
type Duration = number | StringValue;

/** With `NoInfer`, so that editors show a text for each option: see `StreamingOptions`. */
export type CollectionSourceOptions<T = unknown, D extends Document = Document> = NoInfer<CollectionRef> &
  CollectionReading<T, D>;

/**
 * All options are set; durations are milliseconds.
 *
 * @internal
 */
export interface ResolvedReading {
  readonly where: string;
  readonly open: OpenCollection;
  readonly mode: 'auto' | 'changeStream' | 'cursor';
  readonly operations: readonly CollectionOperation[];
  readonly field: string;
  /** The user named the field, so knows that its values grow. */
  readonly fieldGiven: boolean;
  readonly lookBack: number;
  readonly pollInterval: number;
  readonly batch: number;
  readonly snapshot: boolean;
  readonly onLostToken: LostTokenPolicy;
  readonly filter: Document;
  readonly projection: Readonly<Record<string, 0 | 1>> | undefined;
  readonly map: (document: Document) => unknown;
  readonly key: ((document: Document) => string | undefined) | undefined;
  readonly unstorable: UnstorablePolicy<Document>;
}

/**
 * The options, and what the stream that is fed says of time and log.
 *
 * @internal
 */
export interface Reading extends ResolvedReading {
  readonly clock: Clock;
  /** Absent for targets of tests. */
  readonly log: Log | undefined;
}

/** @internal */
export const READING_KEYS = [
  'mode',
  'operations',
  'field',
  'lookBack',
  'pollInterval',
  'batch',
  'snapshot',
  'onLostToken',
  'filter',
  'projection',
  'map',
  'key',
  'unstorable',
] as const satisfies readonly (keyof CollectionReading)[];

const OPERATIONS: readonly CollectionOperation[] = ['insert', 'update', 'replace'];

/**
 * Validates the options and fills in the defaults.
 *
 * @throws MinibatchError `InvalidOptions`
 * @internal
 */
export function resolveReading<T, D extends Document>(
  where: string,
  options: CollectionSourceOptions<T, D> | undefined,
): ResolvedReading {
  checkOptions(where, options, [...COLLECTION_REF_KEYS, ...READING_KEYS], "{ connection, collection: '…' }");
  const { field, filter = {}, projection, map, key, unstorable = 'skip' } = options;
  const mode = checkOneOf(where, 'mode', options.mode ?? 'auto', ['auto', 'changeStream', 'cursor']);
  const operations = checkOperations(where, options.operations ?? ['insert'], mode);
  if (field !== undefined) checkField(where, field, mode, operations);
  checkFilter(where, filter);
  if (projection !== undefined) checkProjection(where, projection);
  checkFunction(where, 'map', map);
  checkFunction(where, 'key', key);
  checkPolicy<UnstorablePolicy<D>>(where, 'unstorable', unstorable, ['skip', 'fail']);
  return {
    where,
    open: checkCollectionRef(where, options, { collection: READING, whenClosed: ErrorCode.SourceFailed }),
    mode: field === undefined ? mode : 'cursor',
    operations,
    field: field ?? '_id',
    fieldGiven: field !== undefined,
    lookBack: checkDuration(where, 'lookBack', options.lookBack ?? 10_000, { min: 0 }),
    pollInterval: checkDuration(where, 'pollInterval', options.pollInterval ?? 1000, {
      min: 10,
      because: 'each look is a query',
    }),
    batch: checkInteger(where, 'batch', options.batch ?? 500, 1),
    snapshot: checkBoolean(where, 'snapshot', options.snapshot ?? true),
    onLostToken: checkOneOf(where, 'onLostToken', options.onLostToken ?? 'fail', ['fail', 'snapshot', 'now']),
    filter,
    projection,
    // What the collection holds is the user's word.
    map: map ? (document) => map(document as D) : (document) => document,
    key: key ? (document) => key(document as D) : undefined,
    unstorable: typeof unstorable === 'function' ? (document, error) => unstorable(document as D, error) : unstorable,
  };
}

function checkOperations(where: string, given: unknown, mode: string): readonly CollectionOperation[] {
  if (!Array.isArray(given) || given.length === 0) {
    throw invalidOption(where, 'operations', given, `a list of ${OPERATIONS.map(show).join(', ')}`);
  }
  const operations = given.map((operation: unknown, index) =>
    checkOneOf(where, `operations[${index}]`, operation, OPERATIONS),
  );
  if (mode === 'cursor' && operations.some((operation) => operation !== 'insert')) {
    throw invalidOption(
      where,
      'operations',
      operations,
      "['insert'] with mode 'cursor'; field: 'updatedAt' sees changes too",
    );
  }
  return operations;
}

function checkField(where: string, field: unknown, mode: string, operations: readonly CollectionOperation[]): void {
  if (typeof field !== 'string' || field === '' || field.startsWith('$') || field.includes('\0')) {
    throw invalidOption(where, 'field', field, 'the path of a field');
  }
  if (mode === 'changeStream')
    throw invalidOption(where, 'field', field, "none with mode 'changeStream', which needs none");
  if (operations.some((operation) => operation !== 'insert')) {
    throw invalidOption(where, 'field', field, `none with operations ${show(operations)}, which need a change stream`);
  }
}
