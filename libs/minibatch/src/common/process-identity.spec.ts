import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { isDead, thisProcess } from './process-identity.js';

vi.mock('node:fs', async (original) => ({ ...(await original<typeof fs>()), readFileSync: vi.fn() }));
const { readFileSync: read } = await vi.importActual<typeof fs>('node:fs');
const reading = vi.mocked(fs.readFileSync);

/** Another process of this host, as it would describe itself. */
async function another() {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const pid = child.pid as number;
  const stat = read(`/proc/${pid}/stat`, 'utf8');
  const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  return { child, owner: { ...thisProcess(), id: 'another', pid, startTime } };
}

describe.runIf(process.platform === 'linux')('isDead', () => {
  afterEach(() => void reading.mockReset());

  it('is true for a process that has ended, or whose pid is another one now', async () => {
    reading.mockImplementation(read);
    const { child, owner } = await another();
    expect(isDead(owner)).toBe(false);
    expect(isDead({ ...owner, startTime: '1' })).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(isDead(owner)).toBe(true);
  });

  it('is false in every case of doubt', async () => {
    reading.mockImplementation(read);
    const gone = { ...thisProcess(), pid: 2 ** 22 + 1 };
    expect(isDead(gone)).toBe(true);
    expect(isDead({ ...gone, host: 'elsewhere' })).toBe(false);
    expect(isDead({ ...gone, bootId: 'before' })).toBe(false);
    expect(isDead({ ...gone, bootId: '' })).toBe(false);
    expect(isDead({ ...gone, startTime: '' })).toBe(false);
  });

  it('is false where the process can not be looked up: hidden by /proc, or no file can be opened any more', async () => {
    reading.mockImplementation(read);
    const { child, owner } = await another();
    reading.mockImplementation(((path: string, ...rest: []) => {
      if (path === `/proc/${owner.pid}/stat`) throw Object.assign(new Error('planted'), { code: 'EMFILE' });
      return read(path, ...rest);
    }) as never);
    expect(isDead(owner)).toBe(false);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(isDead(owner)).toBe(true);
  });
});
