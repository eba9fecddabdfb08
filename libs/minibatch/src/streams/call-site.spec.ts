import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FakeStore } from './fake-store.spec.support.js';
import { StreamHub } from './stream-hub.js';
import type { Stream } from './stream.js';

function setUp() {
  const store = new FakeStore();
  const clock = new VirtualClock();
  const log = { log() {}, warn() {}, error() {} };
  const hub = new StreamHub({ store: store.port, clock, log, retry: { base: 1000, max: 60_000, jitter: 0 } });
  return { store, clock, hub };
}

/** Appends without waiting. */
function forgetful(append: () => Promise<unknown>): Promise<AppendError> {
  return new Promise((resolve) => void append().catch(resolve));
}

const ways: [string, (stream: Stream) => Promise<unknown>][] = [
  ['append', (stream) => stream.append({ delay: 1 })],
  ['append with options', (stream) => stream.append({ delay: 1 }, { key: 'SAT' })],
  ['appendMany', (stream) => stream.appendMany([{ delay: 1 }, { delay: 2 }])],
];

describe('an append that fails and that nobody awaits', () => {
  it.each(ways)('names the stream, and its stack leads to the caller: %s', async (_, way) => {
    const { store, hub } = setUp();
    store.append = async () => {
      throw new Error('no room on the disk');
    };
    const error = await forgetful(() => way(hub.stream('flights')));
    expect(error).toBeInstanceOf(AppendError);
    expect(error).toMatchObject({ code: ErrorCode.AppendFailed, stored: 'unknown' });
    expect(error.message).toMatch(/append(ed)? to 'flights'.*no room on the disk/);
    expect(error.stack?.startsWith(`AppendError: ${error.message}\n    at `)).toBe(true);
    expect(error.stack).toMatch(/at forgetful \(.*call-site\.spec\.ts:\d+:\d+\)/);
  });

  it('has an error of its own, although it shared a write with others', async () => {
    const { store, hub } = setUp();
    store.append = async () => {
      throw new Error('no room on the disk');
    };
    const errors = await Promise.all(
      ['flights', 'trains'].map((stream) => forgetful(() => hub.stream(stream).append({ delay: 1 }))),
    );
    expect(errors.map(({ message }) => message.slice(0, 26))).toEqual([
      "append to 'flights' failed",
      "append to 'trains' failed:",
    ]);
  });

  it('names the stream where the message itself is refused', async () => {
    const { hub } = setUp();
    const error = await forgetful(() => hub.stream('flights').append({ delay: () => 1 }));
    expect(error).toMatchObject({ code: ErrorCode.NotStorable, stored: 'no' });
    expect(error.message).toContain("'flights'");
    expect(error.stack).toMatch(/at forgetful \(/);
  });

  it('leads to the caller for the first twenty of a second only', async () => {
    const { clock, hub } = setUp();
    const sites = () => Array.from({ length: 21 }, hub.callSite).filter(({ stack }) => stack);
    expect(sites()).toHaveLength(20);
    expect(sites()).toHaveLength(0);
    await clock.advance(1_000);
    expect(sites()).toHaveLength(20);
  });
});
