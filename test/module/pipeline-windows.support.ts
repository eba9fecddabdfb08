import { Test, type TestingModule } from '@nestjs/testing';
import type { Type } from '@nestjs/common';
import { defineStream, memoryStore, type StoreDefinition } from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach } from 'vitest';

export interface Reading {
  readonly sensor: string;
  readonly at: number;
  readonly celsius: number;
}
export interface Line {
  readonly text: string;
  readonly at: number;
}

export const Readings = defineStream<Reading>('readings');
export const Divided = defineStream<Reading>('divided', { partitions: 4 });
export const Lines = defineStream<Line>('lines');
export const Out = defineStream('out');
export const Others = defineStream('others');
export const Late = defineStream<Reading>('late');

export const MINUTE = 60_000;
export const reading = (at: number, sensor = 'a', celsius = 20): Reading => ({ sensor, at, celsius });

/** The application of the test; each ends with its test. */
let app: TestingModule | undefined;
afterEach(async () => {
  await app?.close();
  app = undefined;
});

export function application(): TestingModule {
  if (!app) throw new Error('no application was started');
  return app;
}

export function start(...providers: Type[]): Promise<MinibatchHarness> {
  return startOn(memoryStore(), ...providers);
}

export async function startOn(store: StoreDefinition, ...providers: Type[]): Promise<MinibatchHarness> {
  app = await Test.createTestingModule({
    imports: [MinibatchTestingModule.forRoot({ store })],
    providers,
  }).compile();
  await app.init();
  return app.get(MinibatchHarness);
}

/** Appends the messages one by one, and lets a second pass. */
export async function give<T>(harness: MinibatchHarness, stream: ReturnType<typeof defineStream<T>>, ...all: T[]) {
  for (const one of all) await harness.append(stream, one as never);
  await harness.advance('1s');
}

export async function lettersOf(harness: MinibatchHarness, stream: string) {
  const letters = await harness.deadLetters(stream);
  return letters.map(({ data, group, error }) => ({ data, group, code: /\[(\w+)\]$/.exec(error)?.[1] ?? error }));
}

export const bounds = (start: number, end: number) => ({ start: new Date(start), end: new Date(end) });
export const facts = { revision: 0, late: false, partial: false };
