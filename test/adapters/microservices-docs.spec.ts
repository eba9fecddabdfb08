import { type ClientProxy, ClientProxyFactory, Transport } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../../scripts/servers/free-ports.mjs';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository } from '../support/workspace.js';
import { type CompiledPage, compilePage } from './support/documentation.js';

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

const FLIGHT = 'interface Flight { id: string; delay: number }';

/** What stands around the blocks of the page, in their order. */
const FRAMES = [
  {
    file: 'sink',
    around: (code: string) => `
${FLIGHT}
interface Report { flights: number; worst: number }
${code}`,
  },
  {
    file: 'controller',
    around: (code: string) => `
${FLIGHT}
${code}`,
  },
  {
    file: 'main',
    around: (code: string) => `
import { Module } from '@nestjs/common';
import { memoryStore, MinibatchModule, Streaming, Window } from 'nestjs-minibatch';
import { FlightsController } from './controller.js';
class Consumer {
  @Streaming('flights', { size: 1000, interval: 50 })
  flights({ data }: Window<{ id: string }>) {
    console.log('window', data.map(({ id }) => id).join(' '));
  }
}
@Module({
  imports: [MinibatchModule.forRoot({ store: memoryStore() })],
  controllers: [FlightsController],
  providers: [Consumer],
})
class AppModule {}
const port = Number(process.env.PORT);
${code.replace('3000', '0')}
console.log('ready');`,
  },
] as const;

describe('the documentation of Nest transports', { timeout: 120_000 }, () => {
  let page: CompiledPage;
  beforeAll(async () => {
    page = await compilePage('microservices.md', FRAMES);
  }, 120_000);
  afterAll(() => page.dispose());

  it('has code that compiles in a fresh strict application', () => {
    expect(page).toMatchObject({ unframed: 0, errors: [] });
  });

  it('has handlers that append what comes by a transport, and tell when it is stored', async () => {
    const port = await freePort();
    const app = new NodeProcess(page.built('main'), [], { env: { PORT: String(port), NO_COLOR: '1' } });
    await app.line(/^ready$/);
    const client: ClientProxy = ClientProxyFactory.create({ transport: Transport.TCP, options: { port } });
    later(async () => client.close() as void);
    const flights = ['a', 'b', 'c'].map((id) => ({ id, delay: 1 }));
    await expect(lastValueFrom(client.send('flights.append', flights))).resolves.toEqual({ stored: 3 });
    // Once more, and one by one: they are there already.
    await lastValueFrom(client.send('flights.append', flights));
    for (const flight of [...flights, { id: 'd', delay: 2 }]) {
      await lastValueFrom(client.emit('flights.landed', flight), { defaultValue: undefined });
    }
    const seen = () =>
      app.lines.filter((line) => line.startsWith('window')).flatMap((line) => line.split(' ').slice(1));
    await vi.waitUntil(() => seen().includes('d'), SOON);
    expect(seen().toSorted()).toEqual(['a', 'b', 'c', 'd']);
    await expect(lastValueFrom(client.send('flights.append', 5))).rejects.toMatchObject({ status: 'error' });
  });

  it('has an example that runs', async () => {
    const example = new NodeProcess(repository('examples/microservices/main.mjs'), [], {
      env: { PORT: String(await freePort()), NO_COLOR: '1' },
    });
    await example.line(/^window \S+: 6$/);
    await example.line(/^window \S+: 15$/);
  });
});
