import 'reflect-metadata';
import { Injectable, Module, type ModuleMetadata, type Provider } from '@nestjs/common';
import { getConnectionToken, MongooseModule } from '@nestjs/mongoose';
import { Test } from '@nestjs/testing';
import {
  defineStream,
  ErrorCode,
  InjectStream,
  memoryStore,
  MinibatchModule,
  type MinibatchModuleExtras,
  type MinibatchModuleOptions,
  mongooseStore,
  type Sink,
  StatusService,
  Stream,
  Streaming,
  StreamService,
  type StreamStore,
  StreamSource,
  type Source,
  Window,
} from 'nestjs-minibatch';
import { afterEach, describe, expect, it } from 'vitest';
import { connectionToken } from '../../libs/minibatch/src/minibatch.providers.js';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';

interface Flight {
  delay: number;
}
interface Report {
  delays: number[];
  attempt: number;
}

const Flights = defineStream<Flight>('flights');

/** Collects reports, and resolves when there are enough. */
@Injectable()
class Reports implements Sink<Report> {
  readonly all: Report[] = [];
  private waiting: (() => void)[] = [];

  put(report: Report): void {
    this.all.push(report);
    for (const look of this.waiting) look();
  }

  async have(count: number): Promise<readonly Report[]> {
    while (this.all.length < count) await new Promise<void>((resolve) => this.waiting.push(resolve));
    return this.all;
  }
}

@Injectable()
class FlightReport {
  @Streaming(Flights, { size: 2, sink: Reports, retry: { backoff: 1 } })
  summarize(window: Window<Flight>): Report {
    const delays = window.data.map(({ delay }) => delay);
    if (delays.includes(13) && window.attempt === 1) throw new Error('unlucky');
    return { delays, attempt: window.attempt };
  }
}

const CONSUMERS: Provider[] = [FlightReport, Reports];
const closing: (() => Promise<void>)[] = [];

async function start(metadata: ModuleMetadata) {
  const app = await Test.createTestingModule(metadata).compile();
  closing.push(() => app.close());
  await app.init();
  return app;
}

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

describe('MinibatchModule', () => {
  it('carries messages from append to the sink, again after a failure', async () => {
    const app = await start({ imports: [MinibatchModule.forRoot({ store: memoryStore() })], providers: CONSUMERS });
    const streams = app.get(StreamService, { strict: false });
    await Promise.all([1, 2, 13, 4].map((delay) => streams.append(Flights, { delay })));
    expect(await app.get(Reports).have(2)).toEqual([
      { delays: [1, 2], attempt: 1 },
      { delays: [13, 4], attempt: 2 },
    ]);
    await expect(streams.streams()).resolves.toMatchObject([{ name: 'flights', groups: ['default'] }]);
  });

  it('gives handles to modules that ask for them', async () => {
    @Injectable()
    class Producer {
      constructor(
        @InjectStream(Flights) readonly flights: Stream<Flight>,
        @InjectStream('other') readonly other: Stream,
        readonly streams: StreamService,
      ) {}
    }
    @Module({ imports: [MinibatchModule.forFeature([Flights, 'other'])], providers: [Producer] })
    class ProducerModule {}
    const app = await start({
      imports: [
        ProducerModule,
        MinibatchModule.forFeature([Flights]),
        MinibatchModule.forRoot({ store: memoryStore() }),
      ],
      providers: CONSUMERS,
    });
    const { flights, other, streams } = app.get(Producer, { strict: false });
    expect(flights).toBe(streams.stream(Flights));
    expect(other.name).toBe('other');
    await flights.appendMany([{ delay: 1 }, { delay: 2 }]);
    expect(await app.get(Reports).have(1)).toEqual([{ delays: [1, 2], attempt: 1 }]);
  });

  it('feeds a stream from a source', async () => {
    @Injectable()
    @StreamSource(Flights)
    class Feed implements Source<Flight> {
      async *stream() {
        for (let delay = 0; delay < 10; delay += 1) yield { delay };
      }
    }
    const app = await start({
      imports: [MinibatchModule.forRoot({ store: memoryStore() })],
      providers: [...CONSUMERS, Feed],
    });
    const reports = await app.get(Reports).have(5);
    expect(reports.flatMap(({ delays }) => delays)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('flushes what does not fill a window', async () => {
    const app = await start({ imports: [MinibatchModule.forRoot({ store: memoryStore() })], providers: CONSUMERS });
    const flights = app.get(StreamService, { strict: false }).stream(Flights);
    await flights.append({ delay: 5 });
    await flights.flush();
    expect(await app.get(Reports).have(1)).toEqual([{ delays: [5], attempt: 1 }]);
  });

  it('does not run with other processes’ consumers', async () => {
    const imports = [MinibatchModule.forRoot({ store: memoryStore(), consumers: [] })];
    const app = await start({ imports, providers: CONSUMERS });
    await app.get(StreamService, { strict: false }).append(Flights, { delay: 1 });
    await expect(app.get(StreamService, { strict: false }).stream(Flights).stats()).resolves.toMatchObject({
      groups: [],
    });
  });
});

describe('sources of other processes', () => {
  @StreamSource(Flights)
  class First implements Source<Flight> {
    async *stream() {
      yield { delay: 1 };
    }
  }
  @StreamSource('others', { name: 'feed' })
  @StreamSource('others', { name: 'copy' })
  class Second implements Source {
    async *stream() {
      yield { delay: 2 };
    }
  }
  const running = async (sources?: readonly string[]) => {
    const imports = [MinibatchModule.forRoot({ store: memoryStore(), ...(sources ? { sources } : {}) })];
    const app = await start({ imports, providers: [First, Second] });
    const { streams } = await app.get(StatusService, { strict: false }).snapshot();
    return streams.flatMap((stream) => stream.sources.map(({ name }) => name)).toSorted();
  };

  it.each([
    [undefined, ['First', 'copy', 'feed']],
    [[], []],
    [['First'], ['First']],
    [['others'], ['copy', 'feed']],
    [['Second'], ['copy', 'feed']],
    [['feed'], ['feed']],
  ])('do not run: %j leaves %j', async (sources, expected) => {
    expect(await running(sources)).toEqual(expected);
  });

  it('that there are not stop the boot', async () => {
    await expect(running(['Third'])).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
  });

  it('of the same name on one stream stop the boot', async () => {
    @StreamSource(Flights, { name: 'First' })
    class Other extends First {}
    const imports = [MinibatchModule.forRoot({ store: memoryStore() })];
    await expect(start({ imports, providers: [First, Other] })).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      details: { option: 'name', given: 'First' },
    });
  });
});

describe('forRootAsync', () => {
  @Injectable()
  class Config {
    readonly autoStart = false;
  }
  @Module({ providers: [Config], exports: [Config] })
  class ConfigModule {}

  const stored = async (imports: ModuleMetadata['imports']) => {
    const app = await start({ imports, providers: CONSUMERS });
    await app.get(StreamService, { strict: false }).append(Flights, { delay: 1 });
    return app.get(StreamService, { strict: false }).stream(Flights).stats();
  };

  it('takes options from a factory, and the store next to it', async () => {
    const module = MinibatchModule.forRootAsync({
      imports: [ConfigModule],
      inject: [Config],
      useFactory: ({ autoStart }: Config): MinibatchModuleOptions => ({ autoStart }),
      store: memoryStore(),
    });
    expect(await stored([module])).toMatchObject({ buffered: 1, groups: [] });
  });

  it('takes options from a class', async () => {
    @Injectable()
    class Options {
      createMinibatchOptions(): MinibatchModuleOptions {
        return { consumers: [] };
      }
    }
    const module = MinibatchModule.forRootAsync({ useClass: Options, store: memoryStore() });
    expect(await stored([module])).toMatchObject({ buffered: 1, groups: [] });
  });

  it('takes a store that is made by injection', async () => {
    const store = {
      kind: 'memory',
      imports: [ConfigModule],
      inject: [Config],
      useFactory: ({ autoStart }: Config): StreamStore => {
        expect(autoStart).toBe(false);
        return memoryStore().useFactory() as StreamStore;
      },
    };
    expect(await stored([MinibatchModule.forRootAsync({ useFactory: () => ({}), store })])).toMatchObject({
      buffered: 1,
    });
  });

  it('refuses nonsense from the factory', async () => {
    const module = MinibatchModule.forRootAsync({
      useFactory: () => ({ leaseTime: -1 }),
      store: memoryStore(),
    });
    await expect(start({ imports: [module] })).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
  });
});

describe('the store', () => {
  it.each([
    ['a number', { store: 5 }],
    ['an object', { store: {} }],
    ['a connection name together with a store', { store: memoryStore(), connectionName: 'x' }],
  ])('can’t be %s', (_, options) => {
    expect(() => MinibatchModule.forRoot(options as MinibatchModuleExtras)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions }),
    );
  });

  it.each([
    [{}, 'there is no Mongoose connection: import MongooseModule.forRoot(uri) in the root module'],
    [
      { connectionName: 'second' },
      "no Mongoose connection named 'second': import MongooseModule.forRoot(uri, { connectionName: 'second' })",
    ],
    [{ store: mongooseStore({ connectionName: 'third' }) }, "no Mongoose connection named 'third'"],
  ])('needs a connection: %j', async (options: MinibatchModuleExtras, message) => {
    await expect(start({ imports: [MinibatchModule.forRoot(options)] })).rejects.toMatchObject({
      code: ErrorCode.NoConnection,
      message: expect.stringContaining(message) as string,
    });
  });

  it.each([undefined, '', 'DatabaseConnection', 'second'])(
    'asks for the connection %j under Nest’s own token',
    (name) => {
      expect(connectionToken(name)).toBe(getConnectionToken(name));
    },
  );

  describe('in MongoDB', () => {
    let database: TestDatabase;
    const mongoose = (connectionName?: string) =>
      MongooseModule.forRoot(database.uri, { dbName: database.name, ...(connectionName ? { connectionName } : {}) });
    const open = () => {
      database = openDatabase();
      closing.push(() => database.dispose());
    };

    it('is on the application’s connection', async () => {
      open();
      const app = await start({ imports: [mongoose(), MinibatchModule.forRoot()], providers: CONSUMERS });
      await app.get(StreamService, { strict: false }).appendMany(Flights, [{ delay: 1 }, { delay: 2 }]);
      expect(await app.get(Reports).have(1)).toEqual([{ delays: [1, 2], attempt: 1 }]);
    });

    it('is on a named connection, in collections of other names', async () => {
      open();
      const store = mongooseStore({ connectionName: 'second', collections: { buffer: 'messages' } });
      const app = await start({ imports: [mongoose('second'), MinibatchModule.forRoot({ store })] });
      await app.get(StreamService, { strict: false }).append(Flights, { delay: 1 });
      const connection = await database.connect();
      expect(await connection.collection('messages').countDocuments({ stream: 'flights' })).toBe(1);
    });

    it('drains before the connection is closed', async () => {
      open();
      const app = await Test.createTestingModule({
        imports: [mongoose(), MinibatchModule.forRoot()],
        providers: CONSUMERS,
      }).compile();
      await app.init();
      await app.get(StreamService, { strict: false }).appendMany(Flights, [{ delay: 1 }, { delay: 2 }, { delay: 3 }]);
      await app.get(Reports).have(1);
      await app.close();
      const connection = await database.connect();
      // The window was committed; the rest waits for the next start.
      expect(await connection.collection('buffer').countDocuments()).toBe(1);
      expect(await connection.collection('window').countDocuments()).toBe(0);
    });
  });
});
