import { describe, expect, it } from 'vitest';
import { type ConsumerChoice, LEASE, Process, STREAM, turns } from '../engine/process.spec.support.js';
import { ResultRefused } from '../errors/minibatch.error.js';
import type { Renewal } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { health } from './health.js';
import { readNote } from './note-reader.js';
import { reportStreams } from './status.report.js';

const RETRY = { base: 1_000, max: 1_000, jitter: 0, attempts: 100 };

/** What a process that holds no lease reports. */
async function seenBy(p: Process) {
  const streams = reportStreams(await p.store.stats([STREAM]), p.engine.status(), []);
  const at = new Date(p.clock.now()).toISOString();
  const { reasons } = health({ at, store: { name: 'memory', wakeUps: 'polling' }, streams });
  const consumer = streams[0]?.consumers[0];
  return { consumer, reasons: reasons.filter(({ what }) => what !== 'stream-unconsumed') };
}

/** A holder, and another process that waits for its lease. */
async function setUp(choice: ConsumerChoice) {
  const database = new MemoryDatabase();
  const renewals: (readonly Renewal[])[] = [];
  const around = ({ method, args, proceed }: StoreCall) => {
    if (method === 'renewLeases') renewals.push(args[0] as readonly Renewal[]);
    return proceed();
  };
  const holder = await new Process(database, { around }).consumer({ size: 1, ...choice }).start();
  await holder.advance(100);
  const replica = await new Process(database).consumer({ size: 1, ...choice }).start();
  await replica.advance(100);
  return { database, holder, replica, renewals };
}

/** For handlers that hang. */
const pass = (p: Process, ms: number) => p.clock.advance(ms, () => turns(() => false, 60));
const stop = async (...processes: readonly Process[]) => {
  for (const p of processes) {
    const stopping = p.engine.stop(0);
    await pass(p, 10_000);
    await stopping;
  }
};

describe('a process that does not hold the lease', () => {
  it('reports a sink that blocks the holder within one lease time, and when it does no more', async () => {
    let error: Error | undefined = new Error('ledger is full');
    const put = () => {
      if (error) throw error;
    };
    const { holder, replica } = await setUp({
      sinks: [{ name: 'Ledger', sink: { put } }],
      retry: RETRY,
      handler: () => 1,
    });
    expect((await seenBy(replica)).reasons).toEqual([]);
    await holder.append('a');
    await holder.advance(LEASE);
    const { consumer, reasons } = await seenBy(replica);
    expect(reasons).toEqual([
      {
        what: 'consumer-blocked',
        stream: STREAM,
        group: 'default',
        message: expect.stringMatching(
          /^sink Ledger of Test\.default \(process \d+ on .+\) has not taken .*: ledger is full\..*skip\(/,
        ) as string,
      },
    ]);
    expect(consumer?.local).toMatchObject({ state: 'standby' });
    expect(consumer?.remote).toMatchObject({
      host: consumer?.stored?.holder?.host,
      pid: process.pid,
      at: expect.stringMatching(/Z$/) as string,
      activity: 'blocked',
      blockedSinks: [{ sink: 'Ledger', error: 'ledger is full' }],
    });
    error = undefined;
    await holder.advance(LEASE);
    const after = await seenBy(replica);
    expect(after.reasons).toEqual([]);
    expect(after.consumer?.remote).toMatchObject({ activity: 'waiting', committedWindows: 1 });
    // The holder itself knows better than its note.
    expect((await seenBy(holder)).consumer).not.toHaveProperty('remote');
    await stop(holder, replica);
  });

  it('reports a handler that fails', async () => {
    const { holder, replica } = await setUp({
      retry: { ...RETRY, base: 60_000, max: 60_000 },
      handler: () => Promise.reject(new Error('no model')),
    });
    await holder.append('a');
    await holder.advance(LEASE);
    expect((await seenBy(replica)).reasons).toMatchObject([
      { what: 'consumer-retrying', message: expect.stringMatching(/process .* waits for the next attempt: no model/) },
    ]);
    await stop(holder, replica);
  });

  it('reports a handler that never returns, by the clock of the holder', async () => {
    const { holder, replica } = await setUp({ handler: () => new Promise(() => undefined) });
    await holder.put('a');
    await pass(holder, 7 * 60_000);
    expect((await seenBy(replica)).reasons).toMatchObject([
      { what: 'consumer-unsettled', message: expect.stringMatching(/^Test\.default \(process .*\) has not settled/) },
    ]);
    await stop(holder, replica);
  });

  it('shows nothing of a holder that died, nor of an earlier lease', async () => {
    const fails = { value: true };
    const handler = () => (fails.value ? Promise.reject(new Error('no')) : undefined);
    const { database, holder, replica } = await setUp({ retry: { ...RETRY, base: 60_000 }, handler });
    await holder.append('a');
    await holder.advance(LEASE);
    expect((await seenBy(replica)).reasons).toHaveLength(1);
    holder.kill();
    fails.value = false;
    await replica.advance(2 * LEASE);
    const third = await new Process(database).start();
    // The new holder has said nothing bad yet; what its predecessor said is of another lease.
    expect((await seenBy(third)).reasons).toEqual([]);
    await stop(replica, third);
  });
});

describe('what the holder of a lease says', () => {
  it('goes with the renewals there are, and only when there is something new', async () => {
    const { holder, replica, renewals } = await setUp({});
    await holder.advance(4 * LEASE);
    // Nothing has happened.
    expect(renewals.flat().filter(({ note }) => note !== undefined)).toEqual([]);
    const before = renewals.length;
    await holder.append('a');
    await holder.advance(4 * LEASE);
    expect(renewals.flat().filter(({ note }) => note !== undefined)).toHaveLength(1);
    expect(renewals.length - before).toBeLessThanOrEqual(13);
    await stop(holder, replica);
  });

  it('is said again when the store did not take it', async () => {
    const database = new MemoryDatabase();
    let isAway = false;
    const around = ({ method, proceed }: StoreCall) =>
      isAway && method === 'renewLeases' ? Promise.reject(new Error('connection refused')) : proceed();
    const holder = await new Process(database, { around }).consumer({ size: 1 }).start();
    await holder.advance(100);
    isAway = true;
    await holder.append('a');
    await holder.advance(LEASE / 2);
    isAway = false;
    await holder.advance(LEASE / 2);
    const other = await new Process(database).start();
    expect((await seenBy(other)).consumer?.remote).toMatchObject({ committedWindows: 1 });
    await stop(holder, other);
  });

  it('is two kilobytes at the most, however long names and errors are', async () => {
    const long = 'ü"\\\n'.repeat(100_000);
    const sinks = Array.from({ length: 20 }, (_, n) => ({
      name: `${n} ${long}`,
      sink: {
        put: () => {
          throw n % 2 ? new ResultRefused(long) : new Error(long);
        },
      },
    }));
    const { holder, replica, renewals } = await setUp({ sinks, label: long, retry: RETRY, handler: () => 1 });
    await holder.append('a');
    await holder.advance(LEASE);
    const [note = ''] = renewals.flat().flatMap(({ note: each }) => each ?? []);
    expect(Buffer.byteLength(note)).toBeLessThan(2_200);
    expect((await seenBy(replica)).reasons[0]).toMatchObject({ what: 'consumer-blocked' });
    await stop(holder, replica);
  });

  it.each(['', '{', 'null', '7', '{"v":2,"fence":1,"at":"","status":{}}', '{"v":1,"fence":2,"at":"","status":{}}'])(
    'is passed over if it is %j, of another version or another lease',
    (text) => expect(readNote(text, 1)).toBeUndefined(),
  );
});
