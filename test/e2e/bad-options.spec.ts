import 'reflect-metadata';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Inject, Injectable, Module, Scope, type Type } from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import {
  ErrorCode,
  MinibatchError,
  MinibatchModule,
  Streaming,
  type StreamingOptions,
  WindowEmitter,
} from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TestDatabase } from '../support/mongo-server.js';
import { bootError, closeAll, later, mongoose, useDatabase } from './support/applications.js';

/** A consumer with options that may not compile. */
function consumer(options: unknown): Type {
  @Injectable()
  class Report {
    @Streaming('flights', options as StreamingOptions)
    take() {}
  }
  return Report;
}

class Needy extends WindowEmitter {
  constructor(@Inject('MEDIAN') readonly median: number) {
    super();
  }
  windowReady() {
    return false;
  }
  query() {
    return [];
  }
}

afterEach(closeAll);

describe('an application with nonsense in its options', () => {
  let database: TestDatabase;
  beforeEach(() => {
    database = useDatabase();
  });

  /** It is refused, and has not written anything. */
  async function refusal(...providers: Type[]): Promise<MinibatchError> {
    const error = await bootError({ imports: [mongoose(database), MinibatchModule.forRoot()], providers });
    if (!(error instanceof MinibatchError)) throw error;
    const { db } = await database.connect();
    expect(await db?.listCollections().toArray()).toEqual([]);
    return error;
  }

  it.each([
    ['size 0', { size: 0 }, 'size is 0; allowed: a whole number of at least 1'],
    ['size NaN', { size: Number.NaN }, 'size is NaN; allowed: a whole number of at least 1'],
    ['a negative interval', { interval: -5000 }, 'interval is -5000; allowed: a whole number of milliseconds'],
    ['a negative interval in words', { interval: '-5s' }, "interval is '-5s'; allowed: a whole number of milliseconds"],
    [
      'an interval in seconds',
      { interval: 5 },
      'interval is 5; allowed: a whole number of milliseconds of at least 10',
    ],
    [
      'relaxed without interval',
      { relaxed: true },
      'relaxed has no interval: interval is missing; allowed: size, interval',
    ],
    ['an unknown emitter', { emitter: 'Median' }, "emitter is 'Median'; allowed: a subclass of WindowEmitter"],
    ['an emitter that is none', { emitter: Map }, 'emitter is Map; allowed: a subclass of WindowEmitter'],
    ['an unknown option', { sise: 5 }, "unknown option 'sise'; did you mean 'size'? Allowed: size, interval"],
  ])('does not start: %s', async (_, options, message) => {
    const error = await refusal(consumer(options));
    expect(error.code).toBe(ErrorCode.InvalidOptions);
    expect(error.message).toContain(`Report.take: ${message}`);
    expect(error.details).toMatchObject({ where: 'Report.take' });
  });

  it('does not start with an emitter that Nest can’t make', async () => {
    const error = await refusal(consumer({ emitter: Needy }));
    expect(error.code).toBe(ErrorCode.UnresolvedProvider);
    expect(error.message).toContain("Report.take: the emitter Needy can't be created");
  });

  it('does not start with two consumers of one group', async () => {
    class Other {
      @Streaming('flights', { size: 7 })
      count() {}
    }
    const error = await refusal(consumer({ size: 5 }), Other);
    expect(error.code).toBe(ErrorCode.DuplicateGroup);
    expect(error.message).toMatch(/Report\.take|Other\.count/);
    expect(error.details).toMatchObject({ stream: 'flights', group: 'default' });
    expect([...(error.details['consumers'] as string[])].toSorted()).toEqual(['Other.count', 'Report.take']);
  });

  it('does not start with a consumer in a request-scoped host', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class Scoped {
      constructor(@Inject(REQUEST) readonly request: unknown) {}
      @Streaming('flights', { size: 5 })
      count() {}
    }
    const error = await refusal(Scoped);
    expect(error.code).toBe(ErrorCode.ScopedHost);
    expect(error.message).toContain('Scoped.count');
  });

  it('does not start with options of the module that mean nothing', async () => {
    const imports = [mongoose(database), MinibatchModule.forRoot({ leaseTime: Number.NaN })];
    await expect(bootError({ imports })).resolves.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining('MinibatchModule: leaseTime is NaN; allowed: ') as string,
    });
  });

  it('does not start with MinibatchModule.forRoot() in two modules', async () => {
    @Module({ imports: [MinibatchModule.forRoot({ leaseTime: '5s' })] })
    class Feature {}
    const imports = [mongoose(database), MinibatchModule.forRoot(), Feature];
    const error = await bootError({ imports, providers: [consumer({ size: 5 })] });
    expect(error).toMatchObject({
      code: ErrorCode.DuplicateModule,
      message: expect.stringContaining('import it once, in the root module') as string,
    });
    const { db } = await database.connect();
    expect(await db?.listCollections().toArray()).toEqual([]);
  });

  it('does not start without MongooseModule, and says which other store there is', async () => {
    const error = await bootError({ imports: [MinibatchModule.forRoot()], providers: [consumer({ size: 5 })] });
    expect(error).toMatchObject({
      code: ErrorCode.NoConnection,
      message: expect.stringMatching(/import MongooseModule\.forRoot\(uri\).*lmdbStore/) as string,
    });
  });
});

describe('an LMDB store whose path can’t be written', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'minibatch-path-'));
    writeFileSync(join(folder, 'file'), 'mine');
    later(async () => rmSync(folder, { recursive: true, force: true }));
  });

  it.each([
    ['under a file', () => join(folder, 'file/streams')],
    ['a file', () => join(folder, 'file')],
    ['where nobody may write', () => '/proc/minibatch'],
  ])('stops the boot: %s', async (_, path) => {
    const imports = [MinibatchModule.forRoot({ store: lmdbStore({ path: path() }) })];
    const error = await bootError({ imports, providers: [consumer({ size: 5 })] });
    expect(error).toMatchObject({
      code: ErrorCode.StorePath,
      details: { path: path() },
      message: expect.stringContaining(`can't use '${path()}'`) as string,
    });
  });
});
