import { fileURLToPath } from 'node:url';
import { LmdbStreamStore } from 'nestjs-minibatch/lmdb';
import { expect, it } from 'vitest';
import { NodeProcess } from '../e2e/support/node-process.js';
import { temporaryFolder } from '../support/workspace.js';

const SCRIPT = fileURLToPath(new URL('../fixtures/executors/deadly-result.mjs', import.meta.url));
const MOST = 15;

it('a result that kills the emitter ends as a dead letter, though its method runs elsewhere', async () => {
  const folder = await temporaryFolder();
  const store = new LmdbStreamStore({ path: folder.path });
  try {
    await store.open();
    await store.ensureStream('jobs');
    await store.append(['good', 'deadly'].map((data) => ({ stream: 'jobs', data, created: new Date() })));
    const puts: string[] = [];
    let deaths = 0;
    for (; deaths < MOST; deaths += 1) {
      const emitter = new NodeProcess(SCRIPT, [folder.path]);
      const { code, signal } = await emitter.ended;
      puts.push(...emitter.lines.filter((line) => line.startsWith('put ')));
      if (code === 0) break;
      expect(signal, emitter.output).toBe('SIGKILL');
    }
    expect(deaths).toBe(10);
    expect(puts).toEqual([
      ...Array<string>(4).fill('put good+deadly'),
      'put good',
      ...Array<string>(6).fill('put deadly'),
    ]);
    expect(await store.deadLetters('jobs', {}, undefined, 10)).toEqual([
      expect.objectContaining({ data: 'deadly', attempts: 1, error: 'the process ended while it was handled' }),
    ]);
  } finally {
    await store.close();
    await folder.dispose();
  }
});
