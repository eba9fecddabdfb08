import 'reflect-metadata';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openStream } from '../client/index.js';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MinibatchModule } from '../minibatch.module.js';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import type { Stream } from './stream.js';
import { StreamService } from './stream.service.js';

const log = { log() {}, warn() {}, error() {} };
const SOON = { timeout: 50_000, interval: 5 };

type Method = { [K in keyof Stream]: Stream[K] extends (...args: never[]) => unknown ? K : never }[keyof Stream];

/** Every method, so a new one has to be entered here. */
const CALLS: Readonly<Record<Method, (stream: Stream<number>) => unknown>> = {
  append: (stream) => stream.append(1),
  appendMany: (stream) => stream.appendMany([1, 2]),
  attach: (stream) => stream.attach({ stream: async () => undefined }),
  pause: (stream) => stream.pause(),
  resume: (stream) => stream.resume(),
  flush: (stream) => stream.flush(),
  clear: (stream) => stream.clear(),
  grow: (stream) => stream.grow(2),
  messages: (stream) => stream.messages().next(),
  windows: (stream) => stream.windows().next(),
  replay: (stream) => stream.replay(),
  deadLetters: (stream) => stream.deadLetters().next(),
  redrive: (stream) => stream.redrive(),
  discard: (stream) => stream.discard(),
  giveUp: (stream) => stream.giveUp({ window: 'w' }),
  skip: (stream) => stream.skip({ window: 'w' }),
  consume: (stream) => stream.consume({ size: 1 }, () => undefined),
  drain: (stream) => stream.drain({ size: 1 }, () => undefined),
  stats: (stream) => stream.stats(),
  describe: (stream) => stream.describe(),
  close: (stream) => stream.close(),
  removeGroup: (stream) => stream.removeGroup('default'),
  drop: (stream) => stream.drop(),
};

/** An application, or a program without Nest. */
interface Program {
  readonly stream: Stream<number>;
  readonly service?: StreamService;
  close(): Promise<void>;
}

const PROGRAMS: readonly (readonly [string, (store: StreamStore) => Promise<Program>])[] = [
  [
    'Nest',
    async (store) => {
      const app = await Test.createTestingModule({
        imports: [MinibatchModule.forRoot({ store, shutdownTimeout: 10_000 })],
      })
        .setLogger(log)
        .compile();
      await app.init();
      const service = app.get(StreamService);
      return { stream: service.stream<number>('numbers'), service, close: () => app.close() };
    },
  ],
  [
    'the client',
    async (store) => {
      const stream = await openStream<number>(store, 'numbers', { log, shutdownTimeout: 10_000 });
      return { stream, close: () => stream.disconnect() };
    },
  ],
];

const codeOf = async (call: () => unknown): Promise<unknown> => {
  try {
    await call();
    return 'no error';
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
};

describe.each(STORES)('after the end, on %s', (kind, open) => {
  describe.each(PROGRAMS)('of %s', (_, run) => {
    let opened: OpenedStore;
    let program: Program;
    /** Calls of the store that are held up. */
    let held: { readonly method: string; readonly go: () => void }[];
    let hold: string | undefined;

    beforeEach(async () => {
      opened = await open();
      held = [];
      hold = undefined;
      const around = async ({ method, proceed }: StoreCall) => {
        if (method === hold) await new Promise<void>((go) => held.push({ method, go }));
        return proceed();
      };
      program = await run(wrapStore(opened.store, around));
      await program.stream.append(1);
    });
    afterEach(async () => {
      for (const { go } of held) go();
      await program.close();
      await opened.dispose();
    });

    it('every call says so', async () => {
      await program.close();
      const codes: Record<string, unknown> = {};
      for (const [name, call] of Object.entries(CALLS)) codes[name] = await codeOf(() => call(program.stream));
      expect(codes).toEqual(Object.fromEntries(Object.keys(CALLS).map((name) => [name, ErrorCode.ShuttingDown])));
      const { service } = program;
      if (service) expect(await codeOf(() => service.streams())).toBe(ErrorCode.ShuttingDown);
    });

    it('a call that was in flight says so', async () => {
      hold = 'stats';
      const stats = codeOf(() => program.stream.stats());
      await vi.waitUntil(() => held.length > 0, SOON);
      await program.close();
      for (const { go } of held) go();
      // One that was closed, and answers all the same, is no fault.
      const allowed = kind === 'LMDB' ? [ErrorCode.ShuttingDown] : [ErrorCode.ShuttingDown, 'no error'];
      expect(allowed).toContain(await stats);
    });

    it('a drain that was cut off says so', async () => {
      let begin = (): void => undefined;
      const begun = new Promise<void>((resolve) => (begin = resolve));
      let go = (): void => undefined;
      const gate = new Promise<void>((resolve) => (go = resolve));
      const drain = codeOf(() =>
        program.stream.drain({ size: 1 }, async () => {
          begin();
          await gate;
        }),
      );
      await begun;
      const closing = program.close();
      expect(await drain).toBe(ErrorCode.ShuttingDown);
      go();
      await closing;
    });

    it('a consumer that was being registered is not running', async () => {
      hold = 'registerGroup';
      const consuming = codeOf(() => program.stream.consume({ size: 1 }, () => undefined));
      await vi.waitUntil(() => held.length > 0, SOON);
      const closing = program.close();
      expect(await consuming).toBe(ErrorCode.ShuttingDown);
      for (const { go } of held) go();
      await closing;
    });
  });
});
