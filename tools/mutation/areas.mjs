/**
 * What is mutated, and the specs that have to notice. A spec belongs to the area whose promises it tests: a fault in a window
 * strategy that only some engine spec happens to notice is still a gap among the specs of windows.
 *
 * @type {Readonly<Record<string, readonly string[]>>}
 */
export const AREAS = {
  windows: ['windows/*.spec.ts'],
  engine: ['engine/*.spec.ts', 'windows/exactly-once.spec.ts'],
  'storage/memory': ['storage/memory/*.spec.ts', 'engine/retention.spec.ts'],
  'storage/lmdb': [
    'storage/lmdb/{lmdb.store,lmdb.damage,groups,dead-letters,decoded-records,kept-messages,window-records}.spec.ts',
  ],
  storage: [
    'storage/*.spec.ts',
    'storage/memory/*.spec.ts',
    'streams/storable.spec.ts',
    'engine/{bisection,undecodable}.spec.ts',
  ],
  flow: ['flow/*.spec.ts'],
};
