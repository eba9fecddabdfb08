import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { getConnectionToken, InjectConnection, InjectModel, MongooseModule } from '@nestjs/mongoose';
import { type Connection, type Model, Schema } from 'mongoose';
import { AppendError, ErrorCode, MinibatchModule, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import {
  findBinary,
  startTransactionalServer,
  type TransactionalServer,
} from '../../scripts/servers/mongo/jongodb.mjs';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';
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

/** The run's server, if it has transactions; else a small one that has them, where that is installed. */
const runs = inject('mongoSupports').transactions ? 'run' : findBinary() === undefined ? 'none' : 'small';
if (runs === 'none') console.warn('No server with transactions: the outbox is not tried; MONGODB_URI may name one');

afterEach(closeAll);

describe.runIf(runs !== 'none')('an outbox (on a server with transactions)', () => {
  let server: TransactionalServer | undefined;
  let database: TestDatabase;
  beforeAll(async () => {
    if (runs === 'small') server = await startTransactionalServer();
  });
  afterAll(() => server?.stop());
  beforeEach(() => {
    // The small server can't drop a database, and goes with all of them.
    database = server ? openDatabase(server.uri) : useDatabase();
  });

  const boot = async (autoStart = true) => {
    // The small server makes collections only by itself.
    const imports = [mongoose(database, { autoCreate: false }), models, MinibatchModule.forRoot({ autoStart })];
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

  // The small server lacks most of what a consumer asks for.
  it.runIf(runs === 'run')('wakes its consumer when the transaction has committed', async () => {
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
    let beside: Promise<unknown> = Promise.resolve();
    const placed = orders.place({ id: 'o1', total: 5 }, async () => {
      beside = orders.streams.append('orders', { id: 'beside' });
      await beside;
      throw new Error('no stock');
    });
    await expect(placed).rejects.toThrow('no stock');
    await expect(beside).resolves.toHaveProperty('id');
    expect(await connection.collection('buffer').find().toArray()).toMatchObject([{ data: { id: 'beside' } }]);
  });
});

describe.skipIf(inject('mongoSupports').transactions)('an outbox (on a server without transactions)', () => {
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
