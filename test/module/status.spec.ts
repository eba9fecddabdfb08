import 'reflect-metadata';
import {
  type CanActivate,
  Controller,
  type ExecutionContext,
  Injectable,
  Logger,
  Module,
  type ModuleMetadata,
  UseGuards,
  VersioningType,
} from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { Test } from '@nestjs/testing';
import {
  ErrorCode,
  memoryStore,
  MinibatchError,
  MinibatchModule,
  StatusController,
  type StatusControllerOptions,
  type StatusSnapshot,
  StreamService,
} from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MemoryStreamStore } from '../../libs/minibatch/src/storage/memory/memory.store.js';

let app: NestExpressApplication | undefined;

afterEach(async () => {
  await app?.close();
  app = undefined;
});

/** Starts an application on a free port; resolves with what answers a path. */
async function serve(metadata: ModuleMetadata, statusController?: true | StatusControllerOptions, versions = false) {
  const imports = [
    MinibatchModule.forRoot({ store: memoryStore(), ...(statusController ? { statusController } : {}) }),
    ...(metadata.imports ?? []),
  ];
  const testing = await Test.createTestingModule({ ...metadata, imports }).compile();
  app = testing.createNestApplication<NestExpressApplication>();
  if (versions) app.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' });
  await app.listen(0, '127.0.0.1');
  await testing.get(StreamService, { strict: false }).append('a/b', 1);
  const url = await app.getUrl();
  return async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}${path}`, { headers });
    return { status: response.status, body: (await response.json()) as unknown };
  };
}

@Injectable()
class Keys {
  readonly key = 'secret';
}
@Module({ providers: [Keys], exports: [Keys] })
class KeysModule {}
@Injectable()
class KeyGuard implements CanActivate {
  constructor(private readonly keys: Keys) {}
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    return request.headers['x-key'] === this.keys.key;
  }
}

describe('the status controller', () => {
  it('is not there unless it is asked for', async () => {
    const get = await serve({});
    expect((await get('/minibatch')).status).toBe(404);
  });

  it('serves all streams, and each', async () => {
    const get = await serve({}, true);
    const { status, body } = await get('/minibatch');
    expect(status).toBe(200);
    expect(body as StatusSnapshot).toMatchObject({
      store: { name: 'memory' },
      health: { status: 'degraded', reasons: [{ what: 'stream-unconsumed', stream: 'a/b' }] },
      streams: [{ name: 'a/b', stored: { buffered: 1 }, consumers: [], sources: [] }],
    });
    expect(await get('/minibatch/streams/a%2Fb')).toMatchObject({ status: 200, body: { name: 'a/b' } });
    expect(await get('/minibatch/streams/other')).toMatchObject({
      status: 404,
      body: {
        statusCode: 404,
        error: 'Not Found',
        code: 'MINIBATCH_UNKNOWN_STREAM',
        message: expect.stringContaining("there is no stream 'other'") as string,
      },
    });
  });

  it('says that the store does not answer', async () => {
    const get = await serve({}, true);
    const error = new MinibatchError(ErrorCode.StoreUnavailable, 'connection refused');
    const stats = vi.spyOn(MemoryStreamStore.prototype, 'stats').mockRejectedValue(error);
    try {
      expect(await get('/minibatch/streams/a%2Fb')).toMatchObject({
        status: 503,
        body: { statusCode: 503, error: 'Service Unavailable', code: 'MINIBATCH_STORE_UNAVAILABLE' },
      });
      // What this process knows is shown all the same.
      expect(await get('/minibatch')).toMatchObject({
        status: 200,
        body: { store: { error: { code: 'MINIBATCH_STORE_UNAVAILABLE' } }, health: { status: 'degraded' } },
      });
    } finally {
      stats.mockRestore();
    }
  });

  it('has no version where others have', async () => {
    const get = await serve({}, true, true);
    expect((await get('/minibatch')).status).toBe(200);
  });

  it('stands under another path and guards, which inject from the given imports', async () => {
    const get = await serve({}, { path: 'ops/streams', guards: [KeyGuard], imports: [KeysModule] });
    expect((await get('/minibatch')).status).toBe(404);
    expect((await get('/ops/streams')).status).toBe(403);
    expect((await get('/ops/streams/streams/a%2Fb')).status).toBe(403);
    expect((await get('/ops/streams', { 'x-key': 'secret' })).status).toBe(200);
  });

  describe('that anybody can read', () => {
    const warnings = async (choice: true | StatusControllerOptions, metadata: ModuleMetadata = {}) => {
      const warn = vi.spyOn(Logger.prototype, 'warn').mockReturnValue();
      try {
        await serve(metadata, choice);
        return warn.mock.calls.map(([message]) => String(message)).filter((message) => message.includes('guards'));
      } finally {
        warn.mockRestore();
      }
    };

    it.each([[true, '/minibatch'] as const, [{ path: 'ops/streams' }, '/ops/streams'] as const])(
      'warns at boot, with its path: %j',
      async (choice, path) => {
        const [warning, ...others] = await warnings(choice);
        expect(warning).toContain(`GET ${path} tells everybody`);
        expect(others).toEqual([]);
      },
    );

    it('says nothing where that is meant, or guarded', async () => {
      expect(await warnings({ guards: [] })).toEqual([]);
      await app?.close();
      expect(await warnings({ guards: [KeyGuard], imports: [KeysModule] })).toEqual([]);
      await app?.close();
      const providers = [{ provide: APP_GUARD, useValue: { canActivate: () => true } }];
      expect(await warnings(true, { providers })).toEqual([]);
    });
  });

  it('can be extended, with a constructor and guards of one’s own', async () => {
    @Controller('mine')
    @UseGuards(KeyGuard)
    class Mine extends StatusController {
      constructor(readonly keys: Keys) {
        super();
      }
    }
    const get = await serve({ imports: [KeysModule], controllers: [Mine] });
    expect((await get('/mine')).status).toBe(403);
    expect(await get('/mine/streams/a%2Fb', { 'x-key': 'secret' })).toMatchObject({
      status: 200,
      body: { name: 'a/b' },
    });
  });
});
