import fc from 'fast-check';

const METHODS = [
  ...([
    'acquireLease',
    'renewLeases',
    'readLeases',
    'releaseLease',
    'requestLease',
    'recover',
    'fetch',
    'fetchByTime',
    'scan',
  ] as const),
  ...(['load', 'claim', 'commit', 'settle', 'reschedule', 'poll', 'listStreams', 'registerGroup'] as const),
];
export const SLOTS = 3;
const slot = fc.integer({ min: 0, max: SLOTS - 1 });
const JUMP = 300_000;

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      slot,
      count: fc.oneof(
        { weight: 12, arbitrary: fc.integer({ min: 1, max: 7 }) },
        { weight: 1, arbitrary: fc.constant(140) },
      ),
      /** Those of the call whose remainder by 3 is this appear later: ids of other producers, written before and acknowledged after. */
      hidden: fc.integer({ min: 0, max: 8 }),
      wakes: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('reveal' as const) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 18_000 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('start' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('kill' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('stop' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('sleep' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wake' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('jump' as const), slot, ms: fc.constantFrom(-JUMP, JUMP) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('outage' as const),
      slot,
      when: fc.constantFrom('before' as const, 'after' as const),
      calls: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('hold' as const), slot, method: fc.constantFrom(...METHODS) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('answer' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('resolve' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('flush' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pause' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('resume' as const), slot }) },
  // What takes several steps in a row and would seldom come about by chance.
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('crashIn' as const, 'usurpIn' as const),
      slot,
      method: fc.constantFrom('claim', 'commit', 'settle', ...METHODS),
      count: fc.integer({ min: 1, max: 7 }),
    }),
  },
);
export type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

const group = fc.record({
  kind: fc.constantFrom('count', 'wait', 'relaxed', 'fixed', 'own', 'stage', 'stage'),
  size: fc.integer({ min: 1, max: 5 }),
  interval: fc.integer({ min: 500, max: 4_000 }),
  workers: fc.integer({ min: 1, max: 3 }),
  sinks: fc.integer({ min: 0, max: 2 }),
  maxSize: fc.constantFrom(2, 10_000),
  empty: fc.boolean(),
});
export type GroupPlan = typeof group extends fc.Arbitrary<infer G> ? G : never;

/** A run: its groups, what becomes of its handlers and sinks one after the other, and what happens to it. */
export const plan = fc.record({
  groups: fc.array(group, { minLength: 1, maxLength: 3 }),
  readAhead: fc.constantFrom(3, 10, 120),
  /** Without it messages come in among others that have been read. */
  totalOrder: fc.boolean(),
  /** The store applies the effects of a commit when it is settled. */
  late: fc.boolean(),
  /** Bytes of rows that stages keep in memory. */
  cache: fc.constantFrom(0, 100, 10_000),
  /** How many runs fail in a row at the beginning: windows are set aside. */
  outage: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 6, max: 40 }) }),
  /** Multiples of it always fail; none if 0. */
  poison: fc.constantFrom(0, 0, 0, 4, 9),
  handlers: fc.array(
    fc.oneof(
      { weight: 5, arbitrary: fc.constant('ok' as const) },
      { weight: 2, arbitrary: fc.constant('fail' as const) },
      { weight: 2, arbitrary: fc.constant('hang' as const) },
      { weight: 2, arbitrary: fc.constant('slow' as const) },
    ),
    { maxLength: 20 },
  ),
  puts: fc.array(fc.boolean(), { maxLength: 12 }),
  steps: fc.array(step, { minLength: 4, maxLength: 40, size: 'max' }),
});
export type Plan = typeof plan extends fc.Arbitrary<infer P> ? P : never;
