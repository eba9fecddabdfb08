import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { getConnectionToken } from '@nestjs/mongoose';
import type { Connection } from 'mongoose';
import { MinibatchModule, type Sink, StatusService, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type MongoServer, startReplicaSet } from '../../scripts/servers/mongo/mongo.mjs';
import { type FailPoint, failCommands } from '../support/fail-points.js';
import { closeAll, mongoose, SOON, start, useDatabase } from './support/applications.js';

/** By window: one that is redelivered has the same id. */
@Injectable()
class Results implements Sink<readonly number[]> {
  readonly windows = new Map<string, readonly number[]>();
  put(rows: readonly number[], { id }: Window): void {
    this.windows.set(id, rows);
  }
  get rows(): readonly number[] {
    return [...this.windows.values()].flat().toSorted((a, b) => a - b);
  }
}

@Injectable()
class Rows {
  @Streaming<number, typeof Results>('rows', { size: 10, interval: '200ms', workers: 2, sink: Results })
  handle({ data }: Window<number>): readonly number[] {
    return data;
  }
}

const COMMANDS = ['insert', 'findAndModify', 'update', 'delete', 'find', 'aggregate'];
const FAILURES: readonly Omit<FailPoint, 'failCommands'>[] = [
  { closeConnection: true },
  { errorCode: 10107 }, // NotWritablePrimary
  { errorCode: 189 }, // PrimarySteppedDown
  { errorCode: 91 }, // ShutdownInProgress
  { errorCode: 6 }, // HostUnreachable
];
/** Rows between one fault and the next. */
const EACH = 10;

describe('an application on a replica set', () => {
  let server: MongoServer;
  beforeAll(async () => {
    server = await startReplicaSet({ durable: true });
  });
  afterEach(closeAll);
  afterAll(() => server.stop());

  const boot = async () => {
    // The driver takes the server of some errors for gone until the next heartbeat.
    const options = { serverSelectionTimeoutMS: 5_000, heartbeatFrequencyMS: 500 };
    const imports = [mongoose(useDatabase(server.uri), options), MinibatchModule.forRoot({ leaseTime: 3_000 })];
    const app = await start({ imports, providers: [Rows, Results] });
    const streams = app.get(StreamService, { strict: false });
    const append = async (row: number): Promise<void> => {
      // With a dedupe id it may be repeated until it is known to be stored.
      await vi.waitUntil(
        () =>
          streams.append('rows', row, { dedupeId: String(row) }).then(
            () => true,
            () => false,
          ),
        { ...SOON, timeout: 60_000 },
      );
    };
    return {
      results: app.get(Results),
      connection: app.get<Connection>(getConnectionToken(), { strict: false }),
      /** All rows to `to` arrive, each in one window. */
      arrived: async (to: number) => {
        const results = app.get(Results);
        await vi.waitUntil(() => results.rows.length >= to, { timeout: 60_000, interval: 20 });
        await vi.waitUntil(async () => (await streams.stream('rows').stats()).buffered === 0, SOON);
        expect(results.rows).toEqual(Array.from({ length: to }, (_, row) => row));
        const health = () => app.get(StatusService, { strict: false }).health();
        await vi.waitUntil(async () => (await health()).status === 'ok', SOON);
      },
      /** `EACH` more rows, four at a time. */
      appendFrom: async (from: number) => {
        const rows = Array.from({ length: EACH }, (_, index) => from + index);
        const lane = async () => {
          for (let row = rows.shift(); row !== undefined; row = rows.shift()) await append(row);
        };
        await Promise.all([lane(), lane(), lane(), lane()]);
        return from + EACH;
      },
    };
  };

  it('loses and doubles nothing when commands fail in every way', { timeout: 180_000 }, async () => {
    const { connection, arrived, appendFrom } = await boot();
    let rows = await appendFrom(0);
    for (const command of COMMANDS) {
      for (const failure of FAILURES) {
        await failCommands({ connection, times: 2 }, { ...failure, failCommands: [command] });
        rows = await appendFrom(rows);
      }
    }
    await failCommands({ connection, times: 0 }, { failCommands: [] });
    await arrived(rows);
  });

  it('loses and doubles nothing when the primary steps down', { timeout: 120_000 }, async () => {
    const { connection, arrived, appendFrom } = await boot();
    let rows = await appendFrom(0);
    for (let time = 0; time < 4; time += 1) {
      await connection.getClient().db('admin').command({ replSetStepDown: 1, force: true });
      rows = await appendFrom(rows);
    }
    await arrived(rows);
  });

  it('loses and doubles nothing when the server is killed', { timeout: 120_000 }, async () => {
    const { arrived, appendFrom } = await boot();
    let rows = await appendFrom(0);
    for (let time = 0; time < 3; time += 1) {
      const appending = appendFrom(rows);
      await server.kill9();
      await server.restart();
      rows = await appending;
    }
    await arrived(rows);
  });
});
