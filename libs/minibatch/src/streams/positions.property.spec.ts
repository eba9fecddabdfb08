import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { CheckpointError } from '../storage/checkpoints.js';
import { LmdbStreamStore } from '../storage/lmdb/lmdb.store.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { AppendOptions, AppendOutcome, NewMessage, StreamStore } from '../storage/stream-store.interface.js';
import { wrapStore } from '../testing/wrapped-store.js';
import { SystemClock } from '../common/clock.js';
import { DEFAULT_PENDING } from './pending-limit.js';
import { AppendQueue, GROUP_BYTES } from './append-queue.js';
import { turn } from './fake-store.spec.support.js';

const RUNS = Number(process.env['FC_RUNS'] ?? 200);

/** One message: `large` ends a write, `refused` is larger than the store takes, `seen` has one of few dedupe ids. */
type Kind = 'plain' | 'large' | 'refused' | 'seen';

interface PlannedCall {
  readonly stream: string;
  readonly source: string | undefined;
  readonly messages: readonly Kind[];
  /** Turns until the next call. */
  readonly pause: number;
}

/** What happens to a write: nothing, or an error before or after its effect, or positions that can't be stored. */
type Fault = 'none' | 'before' | 'after' | 'positions';

const call = fc.record<PlannedCall>({
  stream: fc.constantFrom('a', 'b', 'c'),
  source: fc.option(fc.constantFrom('one', 'two'), { nil: undefined, freq: 2 }),
  messages: fc.array(
    fc.oneof(
      { arbitrary: fc.constant<Kind>('plain'), weight: 4 },
      { arbitrary: fc.constantFrom<Kind>('large', 'refused', 'seen'), weight: 3 },
    ),
    { maxLength: 4 },
  ),
  pause: fc.nat({ max: 2 }),
});
const plan = fc.record({
  calls: fc.array(call, { minLength: 1, maxLength: 12 }),
  faults: fc.array(fc.constantFrom<Fault>('none', 'none', 'none', 'before', 'after', 'positions'), { maxLength: 12 }),
});

interface Answered {
  readonly call: PlannedCall;
  readonly position: number;
  readonly stored: boolean;
  readonly error: unknown;
}

/** Sizes as `toStorable` counts them; what is written is small, but for what the store is to refuse. */
const BYTES: Record<Kind, number> = { plain: 10, large: GROUP_BYTES - 15, refused: 10, seen: 10 };

class Run {
  readonly answered: Answered[] = [];
  readonly wrong: string[] = [];
  private readonly faults: Fault[];
  private readonly tooLarge: string;

  constructor(
    private readonly store: StreamStore,
    faults: readonly Fault[],
  ) {
    this.faults = [...faults];
    this.tooLarge = 'x'.repeat(store.maxMessageBytes + 1);
  }

  async live(calls: readonly PlannedCall[]): Promise<void> {
    const queue = new AppendQueue({
      store: this.faulty(),
      clock: new SystemClock(),
      limits: DEFAULT_PENDING,
      prepare: () => undefined,
      place: () => undefined,
      look: async () => undefined,
      appended: () => undefined,
    });
    const answers: Promise<void>[] = [];
    for (const [position, planned] of calls.entries()) {
      const { stream, source, messages } = planned;
      const added = queue.add(
        stream,
        messages.map((kind, index) => this.message(stream, kind, `${position}.${index}`)),
        source === undefined ? undefined : { source, position },
      );
      answers.push(added.then(...this.noting(planned, position)));
      for (let pause = planned.pause; pause > 0; pause -= 1) await turn();
    }
    await Promise.all(answers);
    await queue.answered();
  }

  private noting(planned: PlannedCall, position: number) {
    const note = (stored: boolean, error: unknown) =>
      void this.answered.push({ call: planned, position, stored, error });
    return [
      (outcomes: readonly AppendOutcome[]) => {
        if (outcomes.length !== planned.messages.length) this.wrong.push(`call ${position} has another's outcomes`);
        const error = outcomes.find((outcome) => outcome.status === 'failed')?.error;
        note(error === undefined, error);
      },
      (error: unknown) => note(false, error),
    ] as const;
  }

  private message(stream: string, kind: Kind, data: string): NewMessage {
    return {
      stream,
      data: kind === 'refused' ? this.tooLarge : data,
      bytes: BYTES[kind],
      created: new Date(0),
      ...(kind === 'seen' && { dedupeId: 'seen' }),
    };
  }

  private faulty(): StreamStore {
    return wrapStore(this.store, async ({ method, args, proceed }) => {
      if (method !== 'append') return proceed();
      const fault = this.faults.shift() ?? 'none';
      const [messages, { checkpoints = [] }] = args as [readonly NewMessage[], AppendOptions];
      if (fault === 'before') throw new MinibatchError(ErrorCode.StoreUnavailable, 'down');
      if (fault === 'positions' && checkpoints.length > 0) {
        const outcomes = await this.store.append(messages);
        throw new CheckpointError(
          outcomes,
          checkpoints
            .filter(({ from, to }) => outcomes.slice(from, to).every(({ status }) => status !== 'failed'))
            .map((checkpoint) => ({ checkpoint, error: new Error('no room') })),
        );
      }
      const result = await proceed();
      if (fault === 'after') throw new MinibatchError(ErrorCode.StoreUnavailable, 'the answer was lost');
      return result;
    });
  }

  /** A call that heard of no error is stored with its position; its source's position is that of such a call, or of one in doubt. */
  async check(): Promise<readonly string[]> {
    const { wrong } = this;
    for (const stream of ['a', 'b', 'c']) {
      const key = { stream, group: 'default', partition: 0 };
      const { messages } = await this.store.fetch(key, undefined, { messages: 1e6, bytes: Number.MAX_SAFE_INTEGER });
      const held = new Set(messages.map(({ data }) => data));
      const hasAll = ({ call: { messages: kinds }, position }: Answered) =>
        kinds.every((kind, index) =>
          kind === 'seen' ? messages.some(({ deduped }) => deduped) : held.has(`${position}.${index}`),
        );
      const own = this.answered.filter((answered) => answered.call.stream === stream);
      for (const answered of own) {
        if (answered.stored && !hasAll(answered))
          wrong.push(`call ${answered.position} is acknowledged and not stored`);
      }
      for (const source of ['one', 'two']) {
        const calls = own.filter((answered) => answered.call.source === source);
        const found = await this.store.readCheckpoint(stream, source);
        const last = Math.max(-1, ...calls.filter(({ stored }) => stored).map(({ position }) => position));
        const place = `${source} on ${stream} is at ${String(found)}`;
        if (found === undefined) {
          if (last >= 0) wrong.push(`${place}, and call ${last} is acknowledged`);
          continue;
        }
        const at = calls.find(({ position }) => position === found);
        if (!at) wrong.push(`${place}, a position of another`);
        else if (!hasAll(at)) wrong.push(`${place}, and its messages are not stored`);
        else if (at.position < last) wrong.push(`${place}, and call ${last} is acknowledged`);
        else if (!at.stored && isCertain(at.error)) wrong.push(`${place}, and the call was told that it is not`);
      }
    }
    return wrong;
  }
}

/** A lost answer leaves open whether the position was stored. */
function isCertain(error: unknown): boolean {
  return !(error instanceof MinibatchError && error.code === ErrorCode.StoreUnavailable);
}

describe('positions of grouped appends', () => {
  it('are stored with their own messages or not at all: memory', { timeout: RUNS * 1_000 + 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(plan, async ({ calls, faults }) => {
        const run = new Run(new MemoryStreamStore(), faults);
        await run.live(calls);
        expect(await run.check()).toEqual([]);
      }),
      { numRuns: RUNS },
    );
  });

  it('are stored with their own messages or not at all: LMDB', { timeout: RUNS * 1_000 + 60_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'minibatch-positions-'));
    const store = new LmdbStreamStore({ path: folder });
    await store.open();
    try {
      await fc.assert(
        fc.asyncProperty(plan, async ({ calls, faults }) => {
          for (const stream of ['a', 'b', 'c']) await store.dropStream(stream);
          const run = new Run(store, faults);
          await run.live(calls);
          expect(await run.check()).toEqual([]);
        }),
        { numRuns: Math.ceil(RUNS / 5) },
      );
    } finally {
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
