/** The process in which a subject runs: run.mjs starts it, and tells it what to do. Prints nothing of its own. */
const STREAMS = ['bench'];

async function work({ subject, workload, params, servers, folder, counting = false }) {
  const { default: run } = await import(`./workloads/${workload}.mjs`);
  // None but this one: what the others import is not to be in its memory, nor in its start.
  const { default: chosen } = await import(`./subjects/${subject}.mjs`);
  return run(chosen, params, { servers, folder, counting, streams: STREAMS });
}

process.on('message', (order) => {
  work(order).then(
    (result) => process.send({ result }),
    (error) => process.send({ error: error?.stack ?? String(error) }),
  );
});
// Its parent process is gone.
process.on('disconnect', () => process.exit(1));
