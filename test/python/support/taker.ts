import { Injectable, type Type } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import { MinibatchModule, Streaming, type StreamingOptions, StreamService, type Window } from 'nestjs-minibatch';
import { type Log, mongoose, start } from '../../e2e/support/applications.js';
import type { TestDatabase } from '../../support/mongo-server.js';

export interface Taker {
  readonly windows: Window[];
}

/** A consumer that remembers its windows. */
export function takerOf(stream: string, options: StreamingOptions): Type<Taker> {
  @Injectable()
  class Remembering implements Taker {
    readonly windows: Window[] = [];

    @Streaming(stream, options as never)
    take(window: Window): void {
      this.windows.push(window);
    }
  }
  return Remembering;
}

/** An application on the database; without consumers it only appends. */
export function startApp(
  database: TestDatabase,
  providers: readonly Type<unknown>[] = [],
  log?: Log,
): Promise<TestingModule> {
  return start({ imports: [mongoose(database), MinibatchModule.forRoot()], providers: [...providers] }, log);
}

export function streamOf(app: TestingModule, name: string) {
  return app.get(StreamService, { strict: false }).stream(name);
}

/** The messages of its windows. */
export function dataOf(app: TestingModule, taker: Type<Taker>): unknown[] {
  return app.get(taker).windows.flatMap(({ data }) => data);
}
