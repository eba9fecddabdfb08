/** Pages whose blocks are steps of one application: the tests of those adapters compile them together, and run them. */
export const COMPILED_ELSEWHERE = ['adapters/celery.md', 'adapters/microservices.md'];

const DECLARED_EXECUTOR =
  "import type { Executor } from 'nestjs-minibatch';\ndeclare const RequestExecutor: new () => Executor;";

/** What stands around the blocks of a page so that they compile: what its reader has from the text around them. Others stand alone. */
export const DOCS_FRAMES: Readonly<Record<string, (code: string) => string>> = {
  'adapters/kafka.md': (code) => `
import type { KafkaConfig } from 'kafkajs';
interface Flight { origin: string; delay: number }
interface Report { origin: string; worst: number }
abstract class ConfigService { abstract get<T = any>(name: string): T }
declare const kafka: KafkaConfig;
declare const registry: { decode(value: Buffer): Promise<Flight> };
${
  code.startsWith('super(')
    ? `import { KafkaSource } from 'nestjs-minibatch/kafka';
export class Feed extends KafkaSource<Flight | null> { constructor() { ${code} } }`
    : code
}`,
  'guides/executors.md': (code) =>
    code
      .replace("import { FlightReport } from './flight-report.js';", 'declare class FlightReport {}')
      // The class of the page takes a client.
      .replace("import { RequestExecutor } from './request.executor.js';", DECLARED_EXECUTOR),
  'guides/postgres.md': (code) => `
import type { Stream } from 'nestjs-minibatch';
declare const orders: Stream<{ id: string }>;
declare const order: { id: string };
declare const dataSource: {
  transaction(work: (manager: { save(row: object): Promise<unknown>; queryRunner?: object }) => Promise<void>): Promise<void>;
};
declare const knex: { transaction(work: (trx: ((table: string) => { insert(row: object): Promise<unknown> }) & { raw(sql: string, bindings: readonly unknown[]): Promise<unknown> }) => Promise<void>): Promise<void> };
declare const prisma: { $transaction(work: (tx: { order: { create(given: object): Promise<unknown> }; $queryRawUnsafe(text: string, ...values: unknown[]): Promise<unknown> }) => Promise<void>): Promise<void> };
declare const db: { transaction(work: (tx: { insert(table: object): { values(row: object): Promise<unknown> }; execute(query: { chunks: unknown[] }): Promise<unknown> }) => Promise<void>): Promise<void> };
declare const orderTable: object;
declare const sql: { raw(text: string): unknown; param(value: unknown): unknown; join(chunks: unknown[]): { chunks: unknown[] } };
${code}`,
  'guides/reading.md': (code) => `
import type { Stream } from 'nestjs-minibatch';
declare const flights: Stream<{ origin: string; delay: number }>;
${code}`,
  'adapters/mqtt.md': (code) => `
export interface Reading { celsius: number }
export interface Average { room: string; celsius: number }
export abstract class ConfigService { abstract getOrThrow(name: string): string }
declare function averagesOf(readings: readonly Reading[]): Average[];
${code}`,
};
