import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Connection } from 'mongoose';
import { repository } from '../support/workspace.js';
import { closeAll, SOON, uriOf, useDatabase } from './support/applications.js';
import { endProcesses, NodeProcess } from './support/node-process.js';

const APP = repository('test/fixtures/e2e/split-app.mjs');
const WINDOW = /^(billed|shipped|counted) /;

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

describe('processes of one application, split by MINIBATCH_CONSUMERS', { timeout: 90_000 }, () => {
  let connection: Connection;
  let uri: string;
  beforeEach(async () => {
    const database = useDatabase();
    uri = uriOf(database);
    connection = await database.connect();
  });

  async function boot(consumers?: string): Promise<NodeProcess> {
    const app = new NodeProcess(APP, [uri], { env: { NO_COLOR: '1', MINIBATCH_CONSUMERS: consumers } });
    await app.line(/^ready$/);
    return app;
  }

  /** Who works on what, as it stands in the database. */
  const holders = async () => {
    const documents = await connection.collection('consumer').find().sort({ stream: 1, group: 1 }).toArray();
    return documents.map(({ stream, group, lease }) => [`${stream}/${group}`, lease.owner?.pid]);
  };
  const buffered = () => connection.collection('buffer').countDocuments();

  it('the web process only appends, the worker only consumes', async () => {
    const [web, worker] = await Promise.all([boot('none'), boot()]);
    for (const label of ['bill', 'ship', 'count']) {
      await web.line(new RegExp(`→ Orders\\.${label}: does not run in this process`));
      await worker.line(new RegExp(`→ Orders\\.${label}.*CountWindow`));
    }
    for (const line of ['orders o1', 'visits v1', 'orders o2']) web.say(line);
    for (const line of ['billed o1', 'billed o2', 'shipped o1', 'shipped o2', 'counted v1']) {
      await worker.line(new RegExp(`^${line}$`));
    }
    await vi.waitUntil(async () => (await buffered()) === 0, SOON);
    expect(await holders()).toEqual([
      ['orders/billing', worker.pid],
      ['orders/shipping', worker.pid],
      ['visits/default', worker.pid],
    ]);

    // Without a worker the web process takes nothing over; its messages wait for the next one.
    await expect(worker.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(worker.output).toContain('0 abandoned');
    web.say('orders o3');
    await web.line(/^appended o3$/);
    expect((await holders()).map(([, pid]) => pid)).toEqual([undefined, undefined, undefined]);
    const next = await boot();
    await next.line(/^billed o3$/);
    await next.line(/^shipped o3$/);
    expect(web.lines.filter((line) => WINDOW.test(line))).toEqual([]);
    expect(next.lines.filter((line) => WINDOW.test(line)).toSorted()).toEqual(['billed o3', 'shipped o3']);
  });

  it('each of two workers runs what it is named, whichever way', async () => {
    const [billing, rest] = await Promise.all([boot('Orders.bill'), boot('orders/shipping, visits')]);
    for (const line of ['orders o1', 'visits v1']) billing.say(line);
    await billing.line(/^billed o1$/);
    await rest.line(/^shipped o1$/);
    await rest.line(/^counted v1$/);
    // Both groups have to have seen it.
    await vi.waitUntil(async () => (await buffered()) === 0, SOON);
    expect(await holders()).toEqual([
      ['orders/billing', billing.pid],
      ['orders/shipping', rest.pid],
      ['visits/default', rest.pid],
    ]);
    expect(billing.lines.filter((line) => WINDOW.test(line))).toEqual(['billed o1']);
    expect(rest.lines.filter((line) => WINDOW.test(line)).toSorted()).toEqual(['counted v1', 'shipped o1']);
  });

  it('a name that fits nothing stops the boot, and says what there is', async () => {
    const app = new NodeProcess(APP, [uri], { env: { NO_COLOR: '1', MINIBATCH_CONSUMERS: 'orders/biling' } });
    await expect(app.ended).resolves.toMatchObject({ code: 1 });
    expect(app.output).toContain('MINIBATCH_INVALID_OPTIONS');
    expect(app.output).toContain("consumers (or MINIBATCH_CONSUMERS) is 'orders/biling'");
    expect(app.output).toContain('Orders.bill, Orders.ship, Orders.count');
  });
});
