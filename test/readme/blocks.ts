/** Code of a page, made into files that can be compiled. */

export interface Block {
  /** As its first line says. */
  readonly language: string;
  readonly code: string;
  /** Line of the page that its first line is. */
  readonly line: number;
}

/** The blocks of a language, in order. */
export function blocksOf(markdown: string, language = 'ts'): Block[] {
  return allBlocksOf(markdown).filter((block) => block.language === language);
}

/** The blocks of all languages, in order. */
export function allBlocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  let open: { readonly language: string; readonly line: number; readonly code: string[] } | undefined;
  for (const [index, line] of markdown.split('\n').entries()) {
    if (open && line === '```') {
      blocks.push({ language: open.language, code: open.code.join('\n'), line: open.line });
      open = undefined;
    } else if (open) open.code.push(line);
    else if (line.startsWith('```')) open = { language: line.slice(3), line: index + 2, code: [] };
  }
  return blocks;
}

/** What stands around a block so that it compiles: what its reader has from the text around it, and nothing of the package's. */
export interface Frame {
  readonly file: string;
  readonly around: (code: string) => string;
}

const FLIGHTS = `
import { type StreamRef } from 'nestjs-minibatch';
interface Flight { origin: string; delay: number }
declare const Flights: StreamRef<Flight>;
`;

const PAYMENTS = `
interface Payment { amount: number }
`;

const MY_STORE = `
import type { StreamStore } from 'nestjs-minibatch/store';
declare class MyDatabase { destroy(): Promise<void> }
declare const MyStore: new (database: MyDatabase) => StreamStore;
`;

/** The frames of the blocks of the README and of each guide, in their order. Blocks of other pages stand alone: see `docs-frames.ts`. */
export const FRAMES: Readonly<Record<string, readonly Frame[]>> = {
  'README.md': [
    { file: 'sample', around: (code) => code },
    { file: 'sample-imports', around: (code) => code },
  ],
  'docs/guides/producing.md': [
    {
      file: 'produce',
      around: (code) => `${FLIGHTS}${code}`,
    },
    { file: 'client', around: (code) => code },
    {
      file: 'limits',
      around: (code) => `
interface Flight { origin: string; delay: number }
${code}`,
    },
    {
      file: 'removal',
      around: (code) => `
import type { Stream } from 'nestjs-minibatch';
declare const flights: Stream<{ delay: number }>;
${code}`,
    },
    {
      file: 'outbox',
      around: (code) => `
import { Injectable } from '@nestjs/common';
import type { Connection, Model } from 'mongoose';
import { StreamService } from 'nestjs-minibatch';
interface Order { id: string; total: number }
@Injectable()
export class Orders {
  constructor(private readonly orders: Model<Order>, private readonly streams: StreamService) {}
  async place(connection: Connection, order: Order) {
${code}
  }
}`,
    },
  ],
  'docs/guides/consuming.md': [
    {
      file: 'consume',
      around: (code) => `
import { ReportCollection } from './sources-and-sinks.js';
${code}`,
    },
    { file: 'patterns', around: (code) => code },
    {
      file: 'run-time',
      around: (code) => `
${FLIGHTS}
import type { StreamService } from 'nestjs-minibatch';
export async function run(streams: StreamService) {
${code}
}`,
    },
    { file: 'client-drain', around: (code) => `${code}\nconsole.log(windows, messages);` },
  ],
  'docs/guides/windows.md': [
    {
      file: 'windows',
      around: (code) => code,
    },
  ],
  'docs/guides/keyed-windows.md': [{ file: 'keyed-windows', around: (code) => code }],
  'docs/guides/failures.md': [
    {
      file: 'rejections',
      around: (code) => `${PAYMENTS}
declare const Ledger: abstract new () => { put(payments: Payment[]): void };
${code}`,
    },
    { file: 'rejected', around: (code) => `${PAYMENTS}${code}` },
    {
      file: 'out-of-the-way',
      around: (code) => `
import type { Stream } from 'nestjs-minibatch';
declare const flights: Stream<{ delay: number }>;
declare const id: string;
${code}`,
    },
    {
      file: 'delivery',
      around: (code) => `
import type { Stream } from 'nestjs-minibatch';
declare const flights: Stream<{ delay: number }>;
${code}`,
    },
  ],
  'docs/guides/sources-and-sinks.md': [
    {
      file: 'sources-and-sinks',
      around: (code) => `
import { defineStream } from 'nestjs-minibatch';
interface Flight { origin: string; delay: number }
interface Report { flights: number; worst: number }
const Flights = defineStream<Flight>('flights');
abstract class RadarClient { abstract listen(options: { signal: AbortSignal }): AsyncIterable<Flight> }
${code}`,
    },
  ],
  'docs/guides/operations.md': [
    {
      file: 'status',
      around: (code) => `
import type { CanActivate } from '@nestjs/common';
class AdminGuard implements CanActivate { canActivate() { return true; } }
${code}`,
    },
    {
      file: 'shutdown',
      around: (code) => `${code}\nexport { Importer };`,
    },
  ],
  'docs/guides/testing.md': [
    {
      file: 'testing',
      // `expect` is a test runner's. Its types are global; outside of one this will do.
      around: (code) => `
import { deepStrictEqual } from 'node:assert';
import { FlightReport } from './consume.js';
import { ReportCollection } from './sources-and-sinks.js';
const expect = (given: unknown) => ({ toEqual: (wanted: unknown) => deepStrictEqual(given, wanted) });
${code}
await app.close();
console.log('tested');`,
    },
    {
      file: 'testing-failures',
      around: (code) => `
import { deepStrictEqual } from 'node:assert';
import { Injectable } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { type Sink, defineStream, Streaming, Window } from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
const expect = (given: unknown) => ({ toEqual: (wanted: unknown) => deepStrictEqual(given, wanted) });
const PaymentStream = defineStream<{ amount: number }>('payments');
const totals: number[] = [];
@Injectable()
class Ledger implements Sink<number> {
  put(total: number) { totals.push(total); }
}
@Injectable()
class Payments {
  @Streaming(PaymentStream, { size: 2, sink: Ledger })
  total(window: Window<{ amount: number }>) {
    const bad = window.messages.filter(({ data }) => data.amount < 0);
    for (const message of bad) window.reject(message, 'negative');
    const good = window.data.filter(({ amount }) => amount >= 0);
    return good.length === 0 ? undefined : good.reduce((sum, { amount }) => sum + amount, 0);
  }
}
const imports = [MinibatchTestingModule.forRoot()];
const app = await Test.createTestingModule({ imports, providers: [Payments, Ledger] }).compile();
await app.init();
const harness = app.get(MinibatchHarness);
${code}
await app.close();
console.log('failures tested');`,
    },
  ],
  'docs/reference/options.md': [
    {
      file: 'module-options',
      around: (code) => `
abstract class ConfigService { abstract get<T = any>(name: string): T }
${code}`,
    },
  ],
  'docs/guides/writing-a-store.md': [
    { file: 'store-bytes', around: (code) => `${code}\nexport { get, put };` },
    { file: 'store-lease', around: (code) => `${code}\nexport { checkLease };` },
    { file: 'store-contract', around: (code) => `${MY_STORE}${code}` },
    { file: 'my-store', around: (code) => `${MY_STORE}${code}` },
  ],
};
