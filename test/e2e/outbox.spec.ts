import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { getConnectionToken, InjectConnection, InjectModel, MongooseModule } from '@nestjs/mongoose';
import { type Connection, type Model, mongo, Schema } from 'mongoose';
import { AppendError, ErrorCode, MinibatchModule, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type MongoServer, startReplicaSet } from '../../scripts/servers/mongo/mongo.mjs';
import { type FailPoint, failCommands } from '../support/fail-points.js';
import type { TestDatabase } from '../support/mongo-server.js';
import { whereMissing } from '../support/server-differences.js';
import { closeAll, mongoose, SOON, start, useDatabase } from './support/applications.js';

interface Order {
  id: string;
  total: number;
}

@Injectable()
class Orders {
  readonly told: string[] = [];

  constructor(
    @InjectConnection() readonly connection: Connection,
    @InjectModel('Order') readonly orders: Model<Order>,
    readonly streams: StreamService,
  ) {}

  /** The document and the message, or neither. */
  async place(order: Order, then: () => Promise<void> = async () => {}): Promise<void> {
    await this.connection.transaction(async (session) => {
      await this.orders.create([order], { session });
      await this.streams.append('orders', { id: order.id }, { session, dedupeId: order.id });
      await this.streams.appendMany('mails', [`to ${order.id}`, `for ${order.id}`], { session });
      await then();
    });
  }

  @Streaming('orders', { size: 1 })
  bill({ data }: Window<{ id: string }>): void {
    this.told.push(...data.map(({ id }) => id));
  }
}

const OrderSchema = new Schema<Order>({ id: { type: String, unique: true }, total: Number });
const models = MongooseModule.forFeature([{ name: 'Order', schema: OrderSchema }]);

afterEach(closeAll);

describe('an outbox (on a replica set)', () => {
  let server: MongoServer;
  let database: TestDatabase;
  beforeAll(async () => {
    // Its own, for the fail points.
    server = await startReplicaSet();
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    database = useDatabase(server.uri);
  });

  const boot = async (autoStart = true) => {
    const imports = [mongoose(database), models, MinibatchModule.forRoot({ autoStart })];
    const app = await start({ imports, providers: [Orders] });
    const orders = app.get(Orders);
    await orders.orders.init();
    return { orders, connection: app.get<Connection>(getConnectionToken(), { strict: false }) };
  };
  const count = (connection: Connection, stream: string) =>
    connection.collection('buffer').countDocuments({ stream, processed: false });

  it('shows a message when the transaction commits, and never when it does not', async () => {
    const { orders, connection } = await boot(false);
    await orders.place({ id: 'o1', total: 5 }, async () => {
      // Appended, and seen by nobody yet.
      expect(await count(connection, 'orders')).toBe(0);
    });
    expect(await count(connection, 'orders')).toBe(1);
    const refused = orders.place({ id: 'o2', total: 5 }, () => Promise.reject(new Error('no stock')));
    await expect(refused).rejects.toThrow('no stock');
    await orders.place({ id: 'o3', total: 5 });
    const stored = await connection.collection('buffer').find({ stream: 'orders' }).sort({ _id: 1 }).toArray();
    expect(stored.map(({ data }) => data)).toEqual([{ id: 'o1' }, { id: 'o3' }]);
    expect((await orders.orders.find().sort({ id: 1 })).map(({ id }) => id)).toEqual(['o1', 'o3']);
    expect(await count(connection, 'mails')).toBe(4);
  });

  it('wakes its consumer when the transaction has committed', async () => {
    const { orders } = await boot();
    await orders.place({ id: 'o1', total: 5 }, async () => expect(orders.told).toEqual([]));
    await vi.waitUntil(() => orders.told.length === 1, SOON);
    const refused = orders.place({ id: 'o2', total: 5 }, () => Promise.reject(new Error('no stock')));
    await expect(refused).rejects.toThrow('no stock');
    await orders.place({ id: 'o3', total: 5 });
    await vi.waitUntil(() => orders.told.length === 2, SOON);
    expect(orders.told).toEqual(['o1', 'o3']);
  });

  it('takes the message back when the document is refused', async () => {
    const { orders, connection } = await boot(false);
    await orders.place({ id: 'o1', total: 5 });
    await expect(
      connection.transaction(async (session) => {
        await orders.streams.append('orders', { id: 'o1 again' }, { session });
        await orders.orders.create([{ id: 'o1', total: 6 }], { session });
      }),
    ).rejects.toThrow(/E11000|duplicate/);
    expect(await count(connection, 'orders')).toBe(1);
    expect(await orders.orders.countDocuments()).toBe(1);
  });

  it('does not abort the transaction for a dedupe id that was seen', async () => {
    const { orders, connection } = await boot(false);
    await orders.streams.append('orders', { id: 'o1' }, { dedupeId: 'o1' });
    await orders.place({ id: 'o1', total: 5 });
    expect(await count(connection, 'orders')).toBe(1);
    expect(await orders.orders.countDocuments()).toBe(1);
  });

  it('does not share a write with appends outside of it', async () => {
    const { orders, connection } = await boot(false);
    let outside: Promise<unknown> = Promise.resolve();
    const placed = orders.place({ id: 'o1', total: 5 }, async () => {
      outside = orders.streams.append('orders', { id: 'outside' });
      await outside;
      throw new Error('no stock');
    });
    await expect(placed).rejects.toThrow('no stock');
    await expect(outside).resolves.toHaveProperty('id');
    expect(await connection.collection('buffer').find().toArray()).toMatchObject([{ data: { id: 'outside' } }]);
  });

  it('repeats one of two transactions with the same dedupe id', async () => {
    const { orders, connection } = await boot(false);
    for (let round = 0; round < 10; round += 1) {
      const append = (by: string) =>
        connection.transaction(async (session) => {
          const result = await orders.streams.append('orders', { id: by }, { session, dedupeId: `order-${round}` });
          return result.duplicate ?? false;
        });
      const seen = await Promise.all([append('one'), append('other')]);
      expect(seen.toSorted()).toEqual([false, true]);
    }
    expect(await count(connection, 'orders')).toBe(10);
  });

  it.each<[string, FailPoint]>([
    ['a write conflict', { failCommands: ['insert'], errorCode: 112, errorLabels: ['TransientTransactionError'] }],
    [
      'a primary that stepped down',
      { failCommands: ['insert'], errorCode: 189, errorLabels: ['TransientTransactionError'] },
    ],
    ['a connection that broke', { failCommands: ['insert'], closeConnection: true }],
    ['the look for seen dedupe ids', { failCommands: ['find'], closeConnection: true }],
    ['a commit without an answer', { failCommands: ['commitTransaction'], closeConnection: true }],
  ])('repeats the transaction after %s', async (_, point) => {
    const { orders, connection } = await boot(false);
    await orders.streams.append('orders', { id: 'before' });
    let runs = 0;
    await connection.transaction(async (session) => {
      runs += 1;
      if (runs === 1) await failCommands({ connection, times: 1 }, point);
      await orders.streams.append('orders', { id: 'o1' }, { session, dedupeId: 'o1' });
      await orders.streams.appendMany('mails', ['to o1', 'for o1'], { session });
    });
    expect(await count(connection, 'orders')).toBe(2);
    expect(await count(connection, 'mails')).toBe(2);
  });

  it('shows the labels of the error to a transaction that is made by hand', async () => {
    const { orders, connection } = await boot(false);
    await orders.streams.append('orders', { id: 'before' });
    const session = await connection.startSession();
    session.startTransaction();
    await failCommands({ connection, times: 1 }, { failCommands: ['insert'], closeConnection: true });
    const error: unknown = await orders.streams.append('orders', { id: 'o1' }, { session }).catch((reason) => reason);
    expect(error).toBeInstanceOf(mongo.MongoError);
    expect((error as mongo.MongoError).hasErrorLabel('TransientTransactionError')).toBe(true);
    await session.abortTransaction();
    await session.endSession();
  });

  it('says what it takes where the server refuses transactions', async () => {
    const { orders, connection } = await boot(false);
    await orders.streams.append('orders', { id: 'before' });
    // What a standalone mongod answers.
    await failCommands({ connection, times: 1 }, { failCommands: ['insert'], errorCode: 20, errorLabels: [] });
    await expect(
      connection.transaction(async (session) => await orders.streams.append('orders', { id: 'o1' }, { session })),
    ).rejects.toMatchObject({
      code: ErrorCode.StoreUnsupported,
      stored: 'no',
      message: expect.stringContaining('Transactions need a replica set') as string,
    });
  });
});

whereMissing('transactions', () => {
  describe('an outbox (on a server without transactions)', () => {
    it('is refused with a code that says what it takes, and nothing is written', async () => {
      const imports = [mongoose(useDatabase()), models, MinibatchModule.forRoot({ autoStart: false })];
      const orders = (await start({ imports, providers: [Orders] })).get(Orders);
      const session = await orders.connection.startSession();
      session.startTransaction();
      const error = await orders.streams.append('orders', { id: 'o1' }, { session }).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(AppendError);
      expect(error).toMatchObject({
        code: ErrorCode.StoreUnsupported,
        stored: 'no',
        message: expect.stringContaining('Transactions need a replica set') as string,
      });
      expect(await orders.connection.collection('buffer').countDocuments()).toBe(0);
      await session.abortTransaction().catch(() => undefined);
      await session.endSession();
    });
  });
});
