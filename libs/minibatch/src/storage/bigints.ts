/**
 * Whether data hold an integer of 64 bits. Plain data as `NewMessage` has them.
 *
 * A database that others write to has to note it with the data, see `Int64`.
 */
export function holdsBigint(data: unknown): boolean {
  if (typeof data === 'bigint') return true;
  if (typeof data !== 'object' || data === null) return false;
  if ('_bsontype' in data && !Object.hasOwn(data, '_bsontype')) {
    // What a bson value holds: a `Code`'s scope is the only place for more.
    return data._bsontype === 'Long' || ('scope' in data && holdsBigint(data.scope));
  }
  if (ArrayBuffer.isView(data)) return false;
  return Array.isArray(data) ? data.some(holdsBigint) : Object.values(data).some(holdsBigint);
}
