import { createConnection, Schema } from 'mongoose';
import { afterEach, describe, expect, inject, it, vi } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { CollectionSource } from './collection.source.js';
import { whereMissing } from '../../../../../test/support/server-differences.js';
import { MemoryTarget, until, useSource } from './collection-source.spec.support.js';

describe('where a CollectionSource starts', () => {
  const test = useSource({ mode: 'cursor', pollInterval: 20 });
  const { start, end, arrived } = test;
  afterEach(() => void vi.restoreAllMocks());

  const stored = () => test.target.stored as { readonly from?: string };

  describe('with a position that it cannot resume from', () => {
    const foreign = () => ({
      v: 1,
      collection: `${test.database.name}.orders`,
      mode: 'changeStream',
      start: '{"value":{"startAfter":{"_data":"00"}}}',
    });

    it.each([
      ['of a change stream', () => foreign(), /change stream/],
      ['of another collection', () => ({ ...foreign(), collection: 'x.y' }), /written for the collection x\.y/],
      ['of another field', () => ({ ...foreign(), mode: 'cursor', field: 'at' }), /field 'at'/],
      ['that is none', () => ({ hello: 1 }), /not written by a CollectionSource/],
      ['that is broken', () => ({ ...foreign(), start: '{' }), /can not be read/],
    ])('%s fails by default and says what to do', async (_, position, message) => {
      test.target.stored = position();
      const failed = test.make().stream(test.target, test.stop.signal);
      await expect(failed).rejects.toMatchObject({ code: ErrorCode.SourceFailed, message });
      await expect(failed).rejects.toThrow(/Set onLostToken/);
    });

    it("reads everything again with 'snapshot'", async () => {
      await test.orders.insertOne({ n: 1 });
      test.target.stored = foreign();
      start({ onLostToken: 'snapshot', snapshot: false });
      await arrived(1);
      expect(test.target.lines).toEqual([
        expect.stringMatching(/^warn: .*onLostToken is 'snapshot': all of \w+\.orders is read again/),
      ]);
    });

    it("continues with what comes after a start with 'now'", async () => {
      await test.orders.insertOne({ n: 1 });
      test.target.stored = foreign();
      start({ onLostToken: 'now' });
      await until('a new position', () => stored().from !== undefined);
      await test.orders.insertOne({ n: 2 });
      await arrived(1);
      expect(test.target.all('n')).toEqual([2]);
      expect(test.target.lines).toEqual([
        expect.stringMatching(/^warn: .*onLostToken is 'now': what was written to \w+\.orders/),
      ]);
    });

    it('refuses one of a newer version', async () => {
      test.target.stored = { ...foreign(), v: 2 };
      await expect(test.make().stream(test.target, test.stop.signal)).rejects.toMatchObject({
        code: ErrorCode.SchemaTooNew,
      });
    });
  });

  it('uses a change stream where the server has one, otherwise the cursor', async () => {
    await test.orders.insertOne({ n: 1 });
    start({ mode: 'auto' });
    const mode = inject('mongoSupports').changeStreams ? 'changeStream' : 'cursor';
    await until(`a position of a ${mode}`, () => (test.target.stored as { mode?: string } | undefined)?.mode === mode);
    expect(test.target.all('n')).toEqual([1]);
  });

  whereMissing('changeStreams', () => {
    it('says so where a change stream is needed and there is none', async () => {
      for (const options of [{ mode: 'changeStream' }, { mode: 'auto', operations: ['insert', 'update'] }] as const) {
        await expect(test.make(options).stream(test.target, test.stop.signal)).rejects.toMatchObject({
          code: ErrorCode.InvalidOptions,
          message: expect.stringMatching(/no change streams/),
        });
      }
    });
  });

  it('reads the collection of a model, and a collection of the driver', async () => {
    const Order = test.connection.model('Order', new Schema({ n: Number }), 'orders');
    await Order.create({ n: 1 });
    const native = test.connection.db?.collection('orders');
    if (!native) throw new Error('not connected');
    for (const ref of [{ model: Order }, { collection: native }]) {
      test.target = new MemoryTarget();
      test.stop = new AbortController();
      test.running = new CollectionSource({ ...ref, mode: 'cursor', pollInterval: 20 }).stream(
        test.target,
        test.stop.signal,
      );
      await arrived(1);
      await end();
    }
  });

  it('fails, to be started again, while the connection is not open', async () => {
    const closed = await test.database.connect();
    await closed.close();
    const unopened = createConnection();
    for (const other of [closed, unopened]) {
      const failing = new CollectionSource({ connection: other, collection: 'orders', mode: 'cursor' });
      await expect(failing.stream(test.target, test.stop.signal)).rejects.toThrow(/not open|must be connected/);
    }
  });
});
