import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { defineStream, memoryStore, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { type OpenStream, openStream } from 'nestjs-minibatch/client';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { repository } from '../support/workspace.js';
import { asFile, commentBlocksOf } from './doc-comments.js';

const SOURCES = 'libs/minibatch/src';

/** Examples that do not run here, and where what they show does. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'minibatch.worker.ts': 'in a worker: test/executors, test/readme/guides.spec.ts',
  'testing/executor-contract.ts': 'as specs of their own: test/executors',
  'testing/store-contract.ts': 'as a spec of its own: test/examples/file-store.spec.ts',
  'storage/postgres/session.ts': 'with a server: libs/minibatch/src/storage/postgres/postgres.session.spec.ts',
};

/** What an example ends with that shows an error, or asks about a window that is not there. */
const ENDS_WITH: readonly (readonly [of: RegExp, error: RegExp])[] = [
  [/^throw new RemoteHandlerError/, /no such order/],
  [/^throw new ExecutorUnavailable/, /no worker has registered/],
  [/^throw new RejectMessages/, /rejected 1 message of the window: invalid/],
  [/new ResultRefused/, /the ledger refused the result: no/],
  [/5d1c0e…/, /of 'flights': group 'report' has no such window|5d1c0e…/],
];

interface Flight {
  readonly origin: string;
  readonly delay: number;
}

/** What stands around the examples, in place of the reader's own. */
class FlightReport {
  @Streaming('flights', { size: 100, interval: '1s' })
  summarize({ data }: Window<Flight>) {
    return { flights: data.length, worst: Math.max(...data.map(({ delay }) => delay)) };
  }
}

class ReportCollection {
  put() {}
}

class StoredReport {
  @Streaming('flights', { size: 100, interval: '1s', group: 'stored', sink: ReportCollection })
  summarize({ data }: Window<Flight>) {
    return { flights: data.length };
  }
}

@Injectable()
class FlightDelays {
  @Pipeline('delays')
  delays() {
    const flights = from(defineStream<Flight>('flights'));
    return flights.map((flight) => ({ ...flight, airport: 'San Antonio' })).to(defineStream('delays'));
  }
}

const files = (await readdir(repository(SOURCES), { recursive: true }))
  .filter((file) => file.endsWith('.ts') && !file.includes('.spec.'))
  .toSorted();
const sources = await Promise.all(
  files.map(async (file) => [file, await readFile(repository(SOURCES, file), 'utf8')] as const),
);
const blocks = sources.flatMap(([file, text]) => commentBlocksOf(text).map((block) => ({ file, ...block })));

describe('the examples of doc comments', () => {
  let folder: string;
  let app: TestingModule;
  let other: TestingModule;
  let flights: OpenStream<Flight>;
  let orders: OpenStream<{ id: string }>;

  beforeAll(async () => {
    await mkdir(repository('test/.tmp'), { recursive: true });
    folder = await mkdtemp(repository('test/.tmp/examples-'));
    app = await Test.createTestingModule({
      imports: [MinibatchTestingModule.forRoot()],
      providers: [FlightReport, StoredReport, ReportCollection, FlightDelays],
    }).compile();
    await app.init();
    flights = await openStream<Flight>(memoryStore(), 'flights');
    await flights.drain({ size: 1, group: 'report' }, () => undefined);
    orders = await openStream<{ id: string }>(memoryStore(), 'orders');
    await orders.append({ id: '1' });
    // Not the harness's streams: what it shows is of what its example has appended.
    other = await Test.createTestingModule({ imports: [MinibatchTestingModule.forRoot()] }).compile();
    await other.init();
    for (const [name, value] of Object.entries({
      ...{ FlightReport, ReportCollection, flights, orders, expect },
      harness: app.get(MinibatchHarness),
      streams: other.get(StreamService),
      data: { delay: 1 },
      window: { messages: [{ id: '1', data: {} }] },
      valid: (): boolean => false,
      report: (): void => undefined,
      response: { status: 422, text: async () => 'no' },
      FlightApi: class {},
      AdminGuard: class {},
    })) {
      vi.stubGlobal(name, value);
    }
    vi.stubEnv('DATABASE_URL', 'postgres://localhost/example');
    vi.spyOn(console, 'log').mockImplementation(() => undefined);
  });

  afterAll(async () => {
    vi.unstubAllGlobals();
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
    await flights.disconnect();
    await orders.disconnect();
    await Promise.all([app.close(), other.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  it.each(blocks.filter(({ file }) => !(file in ELSEWHERE)))('run: $file, line $line', async ({ file, line, code }) => {
    const path = join(folder, `${file.replaceAll(/\W/g, '_')}_${line}.ts`);
    await writeFile(path, asFile(code.replaceAll("'./data'", `'${join(folder, 'data')}'`)));
    const run = import(/* @vite-ignore */ path);
    const [, error] = ENDS_WITH.find(([of]) => of.test(code)) ?? [];
    if (error) await expect(run).rejects.toThrow(error);
    else await run;
  });

  it('are all found: each @example has a block, and each block is TypeScript or plain text', () => {
    const odd = sources.flatMap(([file, text]) => {
      const comments = text.match(/\/\*\*[^]*?\*\//g) ?? [];
      return comments.flatMap((comment) => {
        const fences = [...comment.matchAll(/^\s*\*\s*```(\w*)$/gm)].map(([, language]) => language);
        const opening = fences.filter((_, index) => index % 2 === 0);
        const bare = (comment.match(/@example/g) ?? []).length > opening.length;
        return bare || opening.some((language) => language !== 'ts' && language !== 'text')
          ? [`${file}: ${comment}`]
          : [];
      });
    });
    expect(odd).toEqual([]);
    expect(Object.keys(ELSEWHERE).filter((file) => !blocks.some((block) => block.file === file))).toEqual([]);
  });
});
