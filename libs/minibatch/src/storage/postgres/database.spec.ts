import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { append, message, read, register } from '../../testing/store-contract/fixtures.js';
import { Database } from './database.js';
import { statement } from './sql.js';

const WHO = statement('select pg_backend_pid() as pid');

describe('a connection to PostgreSQL', () => {
  let schema: TestSchema;
  let pool: pg.Pool;
  beforeEach(() => {
    schema = openSchema();
    pool = new pg.Pool({ connectionString: schema.url, max: 2 });
  });
  afterEach(async () => {
    await pool.end();
    await schema.dispose();
  });

  it('may end between two statements: the work is done again on another one', async () => {
    const clients: pg.PoolClient[] = [];
    pool.on('acquire', (client) => clients.push(client));
    const database = new Database(pool, { schema: schema.schema, prepared: true, patience: 10_000 });
    const seen: number[] = [];
    const last = await database.transaction('try', async ({ query }) => {
      const [{ pid } = { pid: 0 }] = await query<{ pid: number }>(WHO, []);
      seen.push(pid);
      if (seen.length === 1) {
        const ended = endOf(clients[0]!);
        await schema.query('select pg_terminate_backend($1)', [pid]);
        await ended;
      }
      return query<{ pid: number }>(WHO, []);
    });
    expect(seen).toHaveLength(2);
    expect(last).toEqual([{ pid: seen[1] }]);
    expect(clients[0]).not.toBe(clients.at(-1));
    expect(database.breaks).toBeGreaterThan(0);
    database.close();
  });

  it('may be ended by a server that stops just when the store has closed', async () => {
    const end = vi.spyOn(pg.Pool.prototype, 'end');
    try {
      const store = schema.store();
      await store.open();
      await store.close();
      expect(end).toHaveBeenCalledOnce();
      const own = end.mock.contexts[0] as pg.Pool;
      // As the pool does it for a connection that is still being closed. Without a listener it would end the process.
      const error = new Error('terminating connection due to administrator command');
      expect(() => own.emit('error', error, {} as pg.PoolClient)).not.toThrow();
    } finally {
      end.mockRestore();
    }
  });

  it('that ends when its work is done is not used again', async () => {
    const database = new Database(pool, { schema: schema.schema, prepared: true, patience: 10_000 });
    const { client, release } = await database.connect();
    const { rows } = await client.query('select pg_backend_pid() as pid');
    const ended = endOf(client as pg.PoolClient);
    await schema.query('select pg_terminate_backend($1)', [(rows[0] as { pid: number }).pid]);
    await ended;
    release();
    expect(pool.totalCount).toBe(0);
    database.close();
  });

  it('may be ended with the very answer that opens it', async () => {
    const packet = (type: string, ...parts: readonly (string | number)[]) => {
      const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : int32(part))));
      return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
    };
    const [accepted, ready] = [packet('R', 0), packet('Z', 'I')];
    const stopping = packet('E', 'SFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0');
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.end(Buffer.concat([accepted, ready, stopping])));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const stopped = new pg.Pool({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
    const database = new Database(stopped, { schema: schema.schema, prepared: true, patience: 0 });
    // Without a listener from the first moment, the error of the connection would end the process.
    await expect(database.query('try', WHO, [])).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
    database.close();
    await stopped.end();
    server.close();
  });

  it.each(['escape', 'hex'])('gives the same bytes with bytea_output = %s', async (format) => {
    const own = new pg.Pool({ connectionString: schema.url, options: `-c bytea_output=${format}` });
    const store = schema.store({ pool: own });
    await store.open();
    await register(store, 'default');
    const data = { bytes: Buffer.from(Array.from({ length: 256 }, (_, n) => n)), text: String.raw`\x61 \ \\ \134` };
    await append(store, message(data));
    const [found] = await read(store);
    expect(found!.read().data).toEqual(data);
    await store.close();
    await own.end();
  });
});

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function endOf(client: pg.PoolClient): Promise<void> {
  return new Promise((resolve) => client.once('end', resolve));
}
