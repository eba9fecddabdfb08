/** The figures of a case: all subjects in turn, again and again, so that whatever else the machine does hits all of them. */
export async function runCase(each, { processes, subjects, servers, folder, rounds, progress }) {
  const { id, workload, params, parallel } = each;
  const chosen = subjects.filter(
    ({ name, without = [] }) => !without.includes(workload) && (!each.subjects || each.subjects.includes(name)),
  );
  /** What is counted at a run of its own, by subject. */
  const figuresApart = new Map();
  const results = new Map(chosen.map(({ name }) => [name, { runs: [], failed: [] }]));
  const order = (subject, more) => ({
    subject: subject.name,
    workload,
    params: { ...scaled(each, subject), ...more },
    servers,
    folder,
  });

  async function once(subject, round) {
    progress.at(`${id}: ${subject.name}, round ${round + 1} of ${rounds}`);
    const result = results.get(subject.name);
    try {
      if (each.before) await processes.run(order(subject, each.before));
      const run = await processes.run(order(subject));
      if (run) result.runs.push({ round, ...run, ...figuresApart.get(subject.name) });
    } catch (error) {
      result.failed.push(error.message.split('\n')[0]);
      progress.note(`${id}: ${subject.name} failed: ${error.message}`);
    }
  }

  for (const subject of each.counts ? chosen.filter(({ countsApart }) => countsApart) : []) {
    progress.at(`${id}: ${subject.name}, counting`);
    try {
      const { figures } = await processes.run({ ...order(subject), counting: true });
      figuresApart.set(subject.name, { figures });
    } catch (error) {
      progress.note(`${id}: ${subject.name} was not counted: ${error.message}`);
    }
  }
  for (let round = 0; round < (each.rounds ?? rounds); round += 1) {
    if (parallel) await Promise.all(chosen.map((subject) => once(subject, round)));
    else for (const subject of chosen) await once(subject, round);
  }
  for (const [name, { runs }] of results) {
    const lost = runs.reduce((total, run) => total + run.lost, 0);
    const repeated = runs.reduce((total, run) => total + run.repeated, 0);
    if (lost + repeated > 0) progress.note(`${id}: ${name} lost ${lost}, repeated ${repeated}`);
  }
  return { id, workload, params, results: Object.fromEntries(results) };
}

/** A slow subject gets fewer messages, whole windows all the same. */
function scaled({ params, equal }, subject) {
  if (!params.total || equal) return params;
  const { scale = 1 } = subject;
  const size = Math.max(params.size ?? 1, params.count ?? 1);
  const share = typeof scale === 'function' ? scale(params) : scale;
  return { ...params, total: Math.max(size, Math.floor((params.total * share) / size) * size) };
}

/** Those that count: nothing was lost. */
export const counted = (result) => (result?.runs ?? []).filter(({ lost }) => lost === 0);
