import { pause } from '../lib/pause.mjs';

/** What streams with nothing to do cost: commands/s at the server and the share of a core that this process takes. */
export default async function idle(subject, { count, settle, seconds }, context) {
  const names = Array.from({ length: count }, (_, n) => `stream-${n}`);
  const onWindow = () => undefined;
  const session = await subject.open({
    ...context,
    counting: true,
    streams: names,
    clear: true,
    size: 10,
    groups: ['default'],
    onWindow,
  });
  try {
    await session.start();
    await pause(settle * 1000);
    const before = await session.figures?.();
    const cpu = process.cpuUsage();
    const began = performance.now();
    await pause(seconds * 1000);
    const took = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const after = await session.figures?.();
    return {
      messages: 0,
      commands: after && (after.commands - before.commands) / took,
      cpu: (user + system) / 1e6 / took,
      lost: 0,
      repeated: 0,
    };
  } finally {
    await session.close();
  }
}
