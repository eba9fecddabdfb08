import type { Document } from 'bson';

/**
 * Conditions on fields, as in the driver's `find`, joined by `$and`, `$or` and `$nor`. These are not the driver's own types: the
 * package has to compile where no driver is installed.
 *
 * @typeParam D the collection's documents
 */
export type CollectionFilter<D extends Document = Document> = {
  readonly [F in keyof D]?: FieldCondition<D[F]>;
} & FilterJoiners<D>;

/** Paths into a document (`'address.city'`) are not checked. */
interface FilterJoiners<D extends Document> extends Document {
  readonly $and?: readonly CollectionFilter<D>[];
  readonly $or?: readonly CollectionFilter<D>[];
  readonly $nor?: readonly CollectionFilter<D>[];
}

type FieldCondition<V> = Matching<V> | FieldOperators<Matching<V>>;

/** A list is matched as a whole or by one of its elements, text by a regular expression too. */
type Matching<V> = V extends readonly (infer E)[] ? V | E : V extends string ? V | RegExp : V;

interface FieldOperators<V> {
  readonly $eq?: V;
  readonly $ne?: V;
  readonly $gt?: V;
  readonly $gte?: V;
  readonly $lt?: V;
  readonly $lte?: V;
  readonly $in?: readonly V[];
  readonly $nin?: readonly V[];
  readonly $exists?: boolean;
  readonly [operator: `$${string}`]: unknown;
}
