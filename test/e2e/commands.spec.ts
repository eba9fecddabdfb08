import { Injectable } from '@nestjs/common';
import { getConnectionToken, MongooseModule } from '@nestjs/mongoose';
import { Test } from '@nestjs/testing';
import type { Connection } from 'mongoose';
import { MinibatchModule, MinibatchRunner, Streaming, type Window } from 'nestjs-minibatch';
import { afterEach, describe, expect, it } from 'vitest';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';

const MESSAGES = 20_000;
/** The promise; what is measured is 5.5. */
const BUDGET = 6;

describe('database commands', () => {
  let database: TestDatabase | undefined;
  afterEach(() => database?.dispose());

  it(`drains a backlog in windows of 100 with at most ${BUDGET} commands per 1,000 messages, everything included`, async () => {
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
        MinibatchModule.forRoot({ autoStart: false }),
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
        .on('commandStarted', ({ commandName }) => commands.push(commandName));
      await app.get(MinibatchRunner).start();
      // Asked of another connection, so that the asking is not counted.
      await expect.poll(() => setUp.collection('buffer').countDocuments(), { timeout: 60_000, interval: 100 }).toBe(0);

      expect(seen.toSorted((a, b) => a - b)).toEqual(Array.from({ length: MESSAGES }, (_, n) => n));
      expect(commands.length / (MESSAGES / 1_000)).toBeLessThanOrEqual(BUDGET);
    } finally {
      await app.close();
    }
  });
});
