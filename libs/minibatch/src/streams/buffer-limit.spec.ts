import { describe, expect, it } from 'vitest';
import { Process, STREAM, turns } from '../engine/process.spec.support.js';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { BufferLimit } from './buffer-limit.js';

const some = () => turns(() => false, 20);

function setUp(most: number) {
  const p = new Process(new MemoryDatabase());
  const closing = new AbortController();
  const limit = new BufferLimit(STREAM, most, p.store, p.clock, closing.signal);
  const codes: unknown[] = [];
  const texts: string[] = [];
  let appended = 0;
  /** As an append with `overflow: 'wait'`. */
  const append = async () => {
    try {
      await limit.admit(1, true);
      appended += 1;
    } catch (error) {
      codes.push((error as { code: unknown }).code);
      texts.push(String(error));
      throw error;
    }
  };
  const stop = async () => {
    closing.abort();
    const stopping = p.engine.stop(0);
    await p.clock.advance(10_000, some);
    await stopping;
  };
  let release = (): void => undefined;
  /** For handlers that wait until `release`. */
  const held = new Promise<void>((resolve) => (release = resolve));
  return { p, append, codes, texts, stop, held, release: () => release(), appended: () => appended };
}

/** An append that a handler makes waits until `release` makes room. */
async function expectWait({ p, codes, appended, release, stop }: ReturnType<typeof setUp>): Promise<void> {
  await p.put(0, 1, 2, 3);
  await some();
  await p.clock.advance(60_000, some);
  expect({ codes, appended: appended() }).toEqual({ codes: [], appended: 0 });
  release();
  await some();
  await p.clock.advance(5_000, some);
  expect({ codes, appended: appended() }).toEqual({ codes: [], appended: 1 });
  await stop();
}

describe('an append that waits for room in a full stream', () => {
  it.each(['handler', 'sink'] as const)('is refused if its own consumer waits for it: by the %s', async (where) => {
    const { p, append, codes, texts, stop } = setUp(2);
    let isFirst = true;
    const work = async () => {
      if (isFirst) await append().finally(() => (isFirst = false));
    };
    await p
      .consumer({
        size: 1,
        handler: where === 'handler' ? work : () => 1,
        sinks: [{ name: 'sink', sink: { put: where === 'sink' ? work : () => undefined } }],
      })
      .start();
    await p.put(0, 1, 2);
    await some();
    await p.clock.advance(4_000, some);
    expect(codes).toEqual([]);
    await p.clock.advance(4_000, some);
    expect(codes).toEqual([ErrorCode.StreamFull]);
    expect(texts[0]).toContain('it would wait forever: the stream holds 2 messages or more, its maxBuffered');
    expect(texts[0]).toContain("consumer 'default' of the same stream");
    await p.clock.advance(5_000, some);
    expect((await p.store.stats([STREAM]))[0]?.buffered).toBe(0);
    await stop();
  });

  it('is refused behind one of another caller, which keeps waiting', async () => {
    const { p, append, codes, stop } = setUp(2);
    let isFirst = true;
    await p
      .consumer({
        size: 1,
        handler: async () => {
          if (isFirst) await append().finally(() => (isFirst = false));
        },
        retry: { base: 60_000, max: 60_000, jitter: 0, attempts: 5 },
      })
      .start();
    await p.store.append([0, 1].map((data) => ({ stream: STREAM, data, created: new Date(p.clock.now()) })));
    let isIn = false;
    const other = append().then(() => (isIn = true));
    await some();
    p.engine.wake(STREAM);
    await some();
    await p.clock.advance(8_000, some);
    expect({ codes, isIn }).toEqual({ codes: [ErrorCode.StreamFull], isIn: false });
    await p.clock.advance(70_000, some);
    await other;
    expect(isIn).toBe(true);
    await stop();
  });

  it('waits on while another worker may make room', async () => {
    const limit = setUp(4);
    const { p, append, held } = limit;
    await p
      .consumer({
        size: 1,
        workers: 2,
        handler: async ({ data }) => {
          if (data[0] === 0) await append();
          else await held;
        },
      })
      .start();
    await expectWait(limit);
  });

  it('waits on while another group holds up the stream too, and may make room', async () => {
    const limit = setUp(4);
    const { p, append, held } = limit;
    await p
      .consumer({
        group: 'ahead',
        size: 1,
        handler: async ({ data }) => {
          if (data[0] === 3) await append();
        },
      })
      .consumer({ group: 'behind', size: 1, handler: () => held })
      .start();
    await expectWait(limit);
  });
});
