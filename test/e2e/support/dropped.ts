import { Injectable, type Type, type DynamicModule } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import { StatusService, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { expect, vi } from 'vitest';
import { Log, SOON, start } from './applications.js';

@Injectable()
export class Flights {
  readonly seen: unknown[] = [];

  @Streaming('flights', { size: 1 })
  all({ data }: Window): void {
    this.seen.push(...data);
  }
}

export interface Drop {
  readonly imports: readonly (DynamicModule | Type)[];
  readonly drop: (app: TestingModule) => Promise<unknown>;
  /** True once the store has what it needs again, and the consumer its lease. */
  readonly isBack: (app: TestingModule) => Promise<boolean | undefined>;
}

/** Runs an application whose store loses what it has made. Resolves with what it has logged when it has gone on as if nothing had happened. */
export async function outlives({ imports, drop, isBack }: Drop): Promise<readonly string[]> {
  const log = new Log();
  const app = await start({ imports: [...imports], providers: [Flights] }, log);
  const streams = app.get(StreamService, { strict: false });
  const { seen } = app.get(Flights);
  const isEmpty = async () => (await streams.stream('flights').stats()).buffered === 0;
  await streams.append('flights', 'first', { dedupeId: 'first' });
  // Handled is not yet committed: what is dropped in between is handled again, and rightly so.
  await vi.waitUntil(isEmpty, SOON);
  expect(seen).toEqual(['first']);

  await drop(app);
  // Whatever is noticed is noticed by then; who appends earlier is served too, but perhaps twice.
  await vi.waitUntil(() => isBack(app), SOON);
  await streams.append('flights', 'second', { dedupeId: 'second' });
  await vi.waitUntil(() => seen.includes('second'), SOON);
  await vi.waitUntil(isEmpty, SOON);
  expect(seen).toEqual(['first', 'second']);
  expect(await app.get(StatusService, { strict: false }).health()).toEqual({ status: 'ok', reasons: [] });
  expect(log.lines.join('\n')).not.toContain('another process');
  return log.lines;
}
