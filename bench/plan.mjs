/**
 * What is measured. `rounds` of a case goes before that of the run; `equal`: all subjects get the same number of messages; `counts`: a
 * run that is not timed comes before, in which commands are counted.
 */
const OURS = ['ours-mongo', 'ours-lmdb'];
const WITH_MONGO = ['floor-mongo', 'ours-mongo'];
const WITH_LMDB = ['floor-lmdb', 'ours-lmdb'];
const WITH_POSTGRES = ['floor-postgres', 'ours-postgres'];

/**
 * mongo-java-server looks through all that is stored, so a backlog in it is short; on a server with indexes 20,000 messages are gone
 * in less than half a second, of which the beginning and the end are a good part.
 */
const DRAINED = { indexed: 60_000, plain: 20_000 };

/** `indexed`: MongoDB has indexes. */
export function plan({ quick, bytes, indexed = false }) {
  return quick ? quickCases(bytes) : fullCases(bytes, indexed ? DRAINED.indexed : DRAINED.plain);
}

function fullCases(bytes, drained) {
  const large = bytes === 200 ? 1000 : undefined;
  return [
    append('one', 1, 10_000, bytes),
    append('in flight', 32, 30_000, bytes),
    append('bulk', 1000, 60_000, bytes),
    ...[1000, 100, 10, 1].map((size) => drain(size, drained, bytes)),
    ...[1000, 100, 10, 1].map((size) => severalGroups('two', size, 20_000, bytes)),
    severalGroups('five', 100, 20_000, bytes),
    python(10_000, bytes),
    both(100, 30_000, bytes, true),
    both(1000, 20_000, bytes, false, WITH_LMDB),
    ...(large
      ? [append('in flight', 32, 30_000, large), drain(100, 20_000, large), both(100, 30_000, large, true)]
      : []),
    ...[200, 1_000, 5_000].map((rate) => latency(rate, 10, bytes)),
    backlog(1_000_000, 3),
    streams(1_000, bytes),
    startUp(bytes, 3),
    memory(20_000, 3),
    idle(60, 60),
  ];
}

function quickCases(bytes) {
  const few = [...WITH_MONGO, ...WITH_LMDB, 'bullmq'];
  return [
    append('one', 1, 10_000, bytes, WITH_MONGO),
    append('in flight', 32, 30_000, bytes, few),
    ...[1000, 100, 10, 1].map((size) =>
      drain(size, 20_000, bytes, [...(size === 100 ? few : WITH_MONGO), ...WITH_POSTGRES]),
    ),
    severalGroups('two', 100, 20_000, bytes, 1),
    python(3_000, bytes, 1),
    both(100, 4_000, bytes, true, few),
    both(1000, 10_000, bytes, false, WITH_LMDB),
    latency(1_000, 2, bytes, [...WITH_MONGO, ...WITH_LMDB], 1),
    backlog(100_000, 1),
    startUp(bytes, 1),
    idle(6, 6),
  ];
}

const append = (mode, count, total, bytes, subjects) => ({
  id: `append ${mode}${mode === 'one' ? '' : ` ${count}`}${sized(bytes)}`,
  workload: 'append',
  params: { mode, count, total, bytes },
  subjects,
});

const drain = (size, total, bytes, subjects) => ({
  id: `drain ${size}${sized(bytes)}`,
  workload: 'drain',
  params: { size, total, bytes },
  counts: true,
  subjects,
});

const GROUPS = { two: ['a', 'b'], five: ['a', 'b', 'c', 'd', 'e'] };

const severalGroups = (count, size, total, bytes, rounds) => ({
  id: `drain ${size}, ${count} groups`,
  workload: 'drain',
  params: { size, total, bytes, groups: GROUPS[count] },
  counts: true,
  subjects: [...WITH_MONGO, ...WITH_LMDB].filter((name) => name !== 'floor-lmdb'),
  rounds,
});

const python = (total, bytes, rounds) => ({
  id: 'drain 100, as Python',
  workload: 'drain',
  params: { size: 100, total, bytes },
  subjects: [...WITH_MONGO, 'python-minibatch'],
  equal: true,
  rounds,
});

const both = (size, total, bytes, together, subjects) => ({
  id: `${together ? 'append and drain at once' : 'append, then drain'} ${size}${sized(bytes)}`,
  workload: 'both',
  params: { size, total, bytes, together },
  subjects,
});

const latency = (rate, seconds, bytes, subjects, rounds) => ({
  id: `latency at ${rate}/s`,
  workload: 'latency',
  params: { rate, seconds, warmUp: 5, bytes },
  subjects,
  rounds,
});

const backlog = (long, rounds) => ({
  id: 'backlog',
  workload: 'backlog',
  params: { long, short: 10_000 },
  subjects: OURS,
  rounds,
});

const streams = (count, bytes) => ({
  id: `${count} streams`,
  workload: 'streams',
  params: { count, each: 10, size: 10, bytes },
  counts: true,
  rounds: 3,
});

const startUp = (bytes, rounds) => ({
  id: 'start-up',
  workload: 'startup',
  params: { phase: 'run', size: 10, bytes },
  before: { phase: 'fill' },
  rounds,
});

const memory = (total, rounds) => ({
  id: 'memory',
  workload: 'memory',
  params: { size: 100, total, bytes: 1000 },
  rounds,
});

const idle = (settle, seconds) => ({
  id: 'idle',
  workload: 'idle',
  params: { count: 100, settle, seconds },
  rounds: 1,
  parallel: true,
});

const sized = (bytes) => (bytes === 200 ? '' : `, ${bytes} bytes`);
