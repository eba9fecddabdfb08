import { Injectable } from '@nestjs/common';
import { getConnectionToken, MongooseModule } from '@nestjs/mongoose';
import { Test } from '@nestjs/testing';
import type { Connection } from 'mongoose';
import { MinibatchModule, MinibatchRunner, Streaming, type Window } from 'nestjs-minibatch';
import { afterEach, describe, expect, it } from 'vitest';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';

const MESSAGES = 20_000;
/** The promise; what is measured is 5.4. */
const BUDGET = 6;

/**
 * What a consumer sends by the clock and not for a message: it looks for controls and counts the buffer once a second.
 * A slow machine makes more of these in one drain.
 */
const BY_THE_CLOCK = new Set(['find stream', 'aggregate buffer']);

describe('database commands', () => {
  let database: TestDatabase | undefined;
  afterEach(() => database?.dispose());

  // A machine that is busy for a moment commits parts of what was claimed, and needs more. So one drain of three has to keep the promise.
  it(
    `drains a backlog in windows of 100 with at most ${BUDGET} commands per 1,000 messages, everything included`,
    { retry: 2 },
    async () => {
      database = openDatabase();
      const setUp = await database.connect();
      const payload = 'x'.repeat(200);
      for (let from = 0; from < MESSAGES; from += 1_000) {
        const documents = Array.from({ length: 1_000 }, (_, index) => ({
          stream: 'counted',
          created: new Date(),
          data: { n: from + index, payload },
          processed: false,
        }));
        await setUp.collection('buffer').insertMany(documents);
      }

      const seen: number[] = [];
      @Injectable()
      class Counted {
        @Streaming('counted', { size: 100 })
        handle(window: Window<{ n: number }>) {
          for (const { n } of window.data) seen.push(n);
        }
      }
      const app = await Test.createTestingModule({
        imports: [
          MongooseModule.forRoot(database.uri, { dbName: database.name, monitorCommands: true }),
          // No lease is renewed within the test, however slow the machine is.
          MinibatchModule.forRoot({ autoStart: false, leaseTime: '10 minutes' }),
        ],
        providers: [Counted],
      }).compile();
      app.useLogger(['error']);
      await app.init();
      try {
        const commands: string[] = [];
        app
          .get<Connection>(getConnectionToken())
          .getClient()
          .on('commandStarted', ({ commandName, command }) => commands.push(`${commandName} ${command[commandName]}`))
          // A poll that found nothing was sent by the clock too.
          .on('commandSucceeded', ({ commandName, reply }) => {
            if (commandName === 'find' && isEmptyPage(reply)) commands.splice(commands.indexOf('find buffer'), 1);
          });
        await app.get(MinibatchRunner).start();
        // Asked of another connection, so that the asking is not counted.
        await expect
          .poll(() => setUp.collection('buffer').countDocuments(), { timeout: 60_000, interval: 100 })
          .toBe(0);

        expect(seen.toSorted((a, b) => a - b)).toEqual(Array.from({ length: MESSAGES }, (_, n) => n));
        const sent = commands.filter((command) => !BY_THE_CLOCK.has(command));
        expect(sent.length / (MESSAGES / 1_000), sent.join(', ')).toBeLessThanOrEqual(BUDGET);
      } finally {
        await app.close();
      }
    },
  );
});

function isEmptyPage(reply: unknown): boolean {
  const { cursor } = reply as { cursor: { firstBatch: unknown[]; ns: string } };
  return cursor.ns.endsWith('.buffer') && cursor.firstBatch.length === 0;
}
