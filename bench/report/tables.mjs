import { counted } from '../lib/rounds.mjs';
import { median, short, spread, sum } from '../lib/stats.mjs';
import { table } from './markdown.mjs';

const RATE = ['messages/s', ({ rate }) => rate];
const MS = (figure) => [`${figure}, ms`, (run) => run[figure]];
const per1000 = ({ figures }) => figures && figures.commands / (figures.messages / 1000);

/** What is told of each workload: its heading, a sentence, and its columns. */
const WORKLOADS = {
  append: ['Append', 'From the first append until the last is acknowledged.', [RATE]],
  drain: [
    'Drain a backlog',
    'From the moment a paused consumer is resumed until the last message is handled and has left. The floor takes 1000 at a time, whatever the windows. Commands are what the client sends; of Redis, what its scripts do counts, too.',
    [RATE, ['commands per 1,000', per1000]],
  ],
  both: ['Append and drain', 'From the first append until the last message is handled and has left.', [RATE]],
  latency: [
    'Latency at a rate',
    'From when a message was to be appended (so a subject that falls behind does not hide it) until its handler has it, windows of 1. A floor does for each message what has to be done, and nothing else.',
    [MS('p50'), MS('p99'), MS('max'), ['messages/s', ({ rate }) => rate]],
  ],
  backlog: [
    'Long backlog',
    'Windows of 1000; the long one against a short one of 10,000 in the same round. Own memory: without the map of the LMDB file. MongoDB: on a server with indexes only.',
    [
      ['messages/s', RATE[1]],
      ['short, messages/s', ({ shortRate }) => shortRate],
      ['ratio', ({ ratio }) => ratio],
      ['own memory at the most, MB', ({ memory }) => memory.most],
    ],
  ],
  streams: [
    'Many streams',
    'Ten messages each, one window of them; from the start of all consumers.',
    [RATE, ['CPU, s', ({ cpuSeconds }) => cpuSeconds], ['own memory, MB', ({ memory }) => memory]],
  ],
  startup: [
    'Start-up',
    'Seconds from the start of the process until its first window is handled, the imports of Node included; “own” is without them.',
    [
      ['s', ({ seconds }) => seconds],
      ['own, s', ({ opening }) => opening],
    ],
  ],
  memory: [
    'Memory',
    'MB of the process beyond what it had before its consumer started, while it drains messages of 1 KB in windows of 100, and after, garbage collected.',
    [
      ['at the most', ({ most }) => most],
      ['after', ({ after }) => after],
    ],
  ],
  idle: [
    'Idle',
    '100 streams with a consumer each and nothing to do; CPU is that of the process, as a share of a core.',
    [
      ['commands/s', ({ commands }) => commands],
      ['CPU', ({ cpu }) => cpu, (value) => `${(value * 100).toFixed(1)} %`],
    ],
  ],
};

const FLOOR = {
  'ours-mongo': 'floor-mongo',
  'python-minibatch': 'floor-mongo',
  'ours-lmdb': 'floor-lmdb',
  'ours-postgres': 'floor-postgres',
};

/** One section a workload, one table a case. */
export function caseTables({ cases, subjects }, pictures) {
  return Object.entries(WORKLOADS).flatMap(([workload, [heading, sentence, columns]]) => {
    const own = cases.filter((each) => each.workload === workload);
    if (own.length === 0) return [];
    return [
      `## ${heading}`,
      sentence,
      ...own.flatMap((each) => [
        `### ${titleOf(each)}`,
        ...figures(each, pictures),
        caseTable(each, subjects, columns),
      ]),
    ];
  });
}

function titleOf({ id, params }) {
  const details = [
    params.total && `${params.total.toLocaleString('en-US')} messages`,
    params.bytes && `${params.bytes} bytes`,
  ];
  const text = `${id[0].toUpperCase()}${id.slice(1)}`;
  return [text, ...details.filter(Boolean).filter((detail) => !text.includes(detail))].join(', ');
}

const figures = ({ id }, pictures) =>
  pictures.filter((picture) => picture.id === id).map(({ title, file }) => `![${title}](${file})`);

function caseTable({ results }, subjects, columns) {
  const shown = subjects.filter(({ name }) => results[name]?.runs.length > 0);
  const used = columns.filter(([, of]) =>
    shown.some(({ name }) => counted(results[name]).some((run) => of(run) !== undefined)),
  );
  const ratios = used.some(([name]) => name === 'messages/s') && shown.some(({ name }) => results[FLOOR[name]]);
  const head = [
    'Subject',
    'Appended means',
    'Runs',
    ...used.map(([name]) => name),
    ...(ratios ? ['of its floor'] : []),
    'lost',
    'repeated',
  ];
  const rows = shown.map(({ name, label, durability }) => {
    const { runs } = results[name];
    const runsCounted = counted(results[name]);
    return [
      label,
      durability,
      runsCounted.length === runs.length ? runs.length : `${runsCounted.length} of ${runs.length} count`,
      ...used.map(([, of, write]) => spread(runsCounted.map(of), write ?? short)),
      ...(ratios ? [short(ratioOf(results, name))] : []),
      sum(runs.map(({ lost }) => lost)),
      sum(runs.map(({ repeated }) => repeated)),
    ];
  });
  return table(head, rows);
}

function ratioOf(results, name) {
  const floor = new Map(counted(results[FLOOR[name]]).map((run) => [run.round, run.rate]));
  return median(counted(results[name]).map(({ round, rate }) => rate / floor.get(round)));
}
