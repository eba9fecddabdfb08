/**
 * What the pool loads in each thread. In CommonJS, because Node may crash if a thread is terminated while the pool loads an ES module in it,
 * and a thread whose file does not finish loading is terminated.
 */
const thread = import('./thread.js');
// Each task is told.
thread.catch(() => undefined);

module.exports = async function run(task: import('./messages.js').ThreadTask): Promise<void> {
  const { default: handle } = await thread;
  await handle(task);
};
