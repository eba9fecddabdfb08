import { readFileSync } from 'node:fs';
import { getConnectionToken, MongooseModule } from '@nestjs/mongoose';
import { Test } from '@nestjs/testing';
import type { Connection } from 'mongoose';
import { MinibatchModule, MinibatchRunner, Streaming, type Window } from 'nestjs-minibatch';
import { afterEach, describe, expect, it } from 'vitest';
import { meter } from '../../bench/lib/mongo-meter.mjs';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';

/** What draining a backlog may cost at most. It is the same on every machine, and so is a mistake that makes it more. */
interface Budget {
  readonly messages: number;
  readonly bytes: number;
  readonly drains: readonly {
    readonly size: number;
    readonly groups: number;
    /** Everything included: leases, looks, getMores. */
    readonly commandsPer1000: number;
    /** Documents inserted, changed or removed, for each message: of these, one is the message that leaves. */
    readonly writesPerMessage: number;
    /** BSON of the commands. */
    readonly bytesPerMessage: number;
  }[];
}

const budget = JSON.parse(readFileSync(new URL('../../bench/budget.json', import.meta.url), 'utf8')) as Budget;

describe('the budget of a drain (bench/budget.json)', () => {
  let database: TestDatabase | undefined;
  afterEach(() => database?.dispose());

  for (const { size, groups, ...most } of budget.drains) {
    it(`is kept in windows of ${size} with ${groups === 1 ? 'one group' : `${groups} groups`}`, async () => {
      database = openDatabase();
      const setUp = await database.connect();
      await fill(setUp, budget.messages, 'x'.repeat(budget.bytes));

      const seen = new Map<string, number[]>();
      const consumers = Array.from({ length: groups }, (_, index) => consumer(`group-${index}`, size, seen));
      const app = await Test.createTestingModule({
        imports: [
          MongooseModule.forRoot(database.uri, { dbName: database.name, monitorCommands: true }),
          MinibatchModule.forRoot({ autoStart: false }),
        ],
        providers: consumers,
      }).compile();
      app.useLogger(['error']);
      await app.init();
      try {
        const counted = meter(app.get<Connection>(getConnectionToken()).getClient(), { sized: true });
        await app.get(MinibatchRunner).start();
        // Asked of another connection, so that the asking is not counted.
        const left = () => setUp.collection('buffer').countDocuments();
        await expect.poll(left, { timeout: 60_000, interval: 50 }).toBe(0);
        const { written, bytes } = counted.figures;
        const writes = written.inserted + written.updated + written.deleted;
        const used = {
          commandsPer1000: counted.total / (budget.messages / 1_000),
          writesPerMessage: writes / budget.messages,
          bytesPerMessage: bytes / budget.messages,
        };

        const everyone = Array.from({ length: budget.messages }, (_, n) => n);
        for (const numbers of seen.values()) expect(numbers.toSorted((a, b) => a - b)).toEqual(everyone);
        expect(seen.size).toBe(groups);
        for (const [figure, value] of Object.entries(used)) {
          expect(value, `${figure} of ${JSON.stringify(used)}`).toBeLessThanOrEqual(most[figure as keyof typeof most]);
        }
      } finally {
        await app.close();
      }
    }, 120_000);
  }
});

/** As a producer in Python or of another process would leave them. */
async function fill(connection: Connection, messages: number, text: string): Promise<void> {
  for (let from = 0; from < messages; from += 1_000) {
    const documents = Array.from({ length: 1_000 }, (_, index) => ({
      stream: 'counted',
      created: new Date(),
      data: { n: from + index, text },
      processed: false,
    }));
    await connection.collection('buffer').insertMany(documents);
  }
}

function consumer(group: string, size: number, seen: Map<string, number[]>): new () => object {
  seen.set(group, []);
  class Counted {
    @Streaming('counted', { size, group })
    handle(window: Window<{ n: number }>) {
      for (const { n } of window.data) seen.get(group)?.push(n);
    }
  }
  return Counted;
}
