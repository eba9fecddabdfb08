import { hasIndexes } from './lib/servers.mjs';
import { short } from './lib/stats.mjs';

/**
 * What is wanted, as ratios within one run, because they hold on any machine. `measure` gives undefined where the run does not have it.
 */
const SIZES = [1000, 100, 10, 1];
const JAVA = { 1000: 0.85, 100: 0.85, 10: 0.8, 1: 0.5 };
const INDEXED = { 1000: 1, 100: 1, 10: 0.9, 1: 0.7 };
const POSTGRES = { 1000: 0.75, 100: 0.75, 10: 0.6 };
const COMMANDS = { 1000: 6, 100: 6, 10: 6, 1: 7 };

const atLeast = (text, least, measure) => ({ text, goal: `≥ ${least}`, measure, met: (value) => value >= least });
const atMost = (text, most, measure) => ({ text, goal: `≤ ${most}`, measure, met: (value) => value <= most });

const drain = (size) => `drain ${size}`;
const per1000 = ({ figures }) => figures && figures.commands / (figures.messages / 1000);
const indexed = ({ servers }) => hasIndexes(servers);

export const goals = [
  ...SIZES.map((size) =>
    atLeast(
      `MongoDB without indexes (mongo-java-server): drain in windows of ${size}, against the bare loop of 1000`,
      JAVA[size],
      (r) => (indexed(r) ? undefined : r.ratio(drain(size), 'ours-mongo', 'floor-mongo')),
    ),
  ),
  ...SIZES.map((size) =>
    atLeast(`MongoDB with indexes (\`MONGODB_URI\`): the same, windows of ${size}`, INDEXED[size], (r) =>
      indexed(r) ? r.ratio(drain(size), 'ours-mongo', 'floor-mongo') : undefined,
    ),
  ),
  atLeast('MongoDB: append one after the other, each awaited, against bare insertOne', 0.9, (r) =>
    r.ratio('append one', 'ours-mongo', 'floor-mongo'),
  ),
  atLeast('MongoDB: append one by one with 32 in flight, against bare insertMany of 32', 0.9, (r) =>
    r.ratio('append in flight 32', 'ours-mongo', 'floor-mongo'),
  ),
  ...SIZES.map((size) =>
    atMost(`Database commands per 1,000 messages, everything included, windows of ${size}`, COMMANDS[size], (r) =>
      r.value(drain(size), 'ours-mongo', per1000),
    ),
  ),
  ...SIZES.map((size) =>
    atMost(`the same with two groups, windows of ${size}`, 9, (r) =>
      r.value(`${drain(size)}, two groups`, 'ours-mongo', per1000),
    ),
  ),
  ...SIZES.map((size) =>
    atLeast(`MongoDB: drain by two groups in windows of ${size}, against one bare loop that serves both`, 0.6, (r) =>
      r.ratio(`${drain(size)}, two groups`, 'ours-mongo', 'floor-mongo'),
    ),
  ),
  atLeast('MongoDB: the same by five groups, windows of 100', 0.3, (r) =>
    r.ratio('drain 100, five groups', 'ours-mongo', 'floor-mongo'),
  ),
  atLeast('Python minibatch on the same server: drain in windows of 100', 12, (r) =>
    r.ratio('drain 100, as Python', 'ours-mongo', 'python-minibatch'),
  ),
  atLeast('LMDB: append, then drain in windows of 1000, against bare lmdb with the same transactions', 0.5, (r) =>
    r.ratio('append, then drain 1000', 'ours-lmdb', 'floor-lmdb'),
  ),
  atLeast('LMDB against BullMQ (AOF everysec): append and handle, windows of 100', 8, (r) =>
    r.ratio('append and drain at once 100', 'ours-lmdb', 'bullmq'),
  ),
  ...[1000, 100, 10].map((size) =>
    atLeast(`PostgreSQL: drain in windows of ${size}, against bare select + delete of 1000`, POSTGRES[size], (r) =>
      r.ratio(drain(size), 'ours-postgres', 'floor-postgres'),
    ),
  ),
  ...[1000, 100, 10].map((size) =>
    atMost(`PostgreSQL: statements per 1,000 messages, everything included, windows of ${size}`, 4.5, (r) =>
      r.value(drain(size), 'ours-postgres', per1000),
    ),
  ),
  ...Object.entries({ 1000: 5, 100: 10 }).map(([size, least]) =>
    atLeast(`PostgreSQL against pg-boss: drain in windows of ${size}`, least, (r) =>
      r.ratio(drain(size), 'ours-postgres', 'pg-boss'),
    ),
  ),
  ...latency('MongoDB', 'ours-mongo', 'floor-mongo', 'insert + find + insert of the bare driver', 15),
  ...latency('LMDB', 'ours-lmdb', 'floor-lmdb', 'two transactions of bare lmdb', 5),
  atLeast('LMDB: speed of a backlog of 1,000,000 against 10,000', 0.9, (r) => backlog(r, 'ours-lmdb')),
  atMost('Idle: commands per second of 100 streams after a minute', 1, (r) => idle(r)),
];

function latency(store, ours, floor, what, most99) {
  const beyond = (figure) => (r) => r.compare('latency at 1000/s', ours, floor, (a, b) => a[figure] - b[figure]);
  const text = (figure) => `${store}: latency at 1,000/s, windows of 1, ${figure} beyond ${what}, ms`;
  return [atMost(text('p50'), 1, beyond('p50')), atMost(text('p99'), most99, beyond('p99'))];
}

/** A quick run has a shorter one, which says nothing of this. */
function backlog(results, subject) {
  if (results.cases.get('backlog')?.params.long !== 1_000_000) return undefined;
  return results.value('backlog', subject, ({ ratio }) => ratio);
}

/** Neither has it waited for a minute. */
function idle(results) {
  if (!(results.cases.get('idle')?.params.settle >= 60)) return undefined;
  return results.value('idle', 'ours-mongo', ({ commands }) => commands);
}

/** @returns {{ text: string, goal: string, measured: string, met: 'yes' | 'no' | '' }[]} */
export function evaluate(results) {
  return goals.map(({ text, goal, measure, met }) => {
    const value = measure(results);
    if (value === undefined) return { text, goal, measured: 'not measured', met: '' };
    const verdict = met(value);
    return { text, goal, measured: short(value), met: verdict === undefined ? '' : verdict ? 'yes' : 'no' };
  });
}
