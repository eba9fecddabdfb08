import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { defineStream, ErrorCode, memoryStore } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { application, give, Out, reading, Readings, startOn } from './pipeline-windows.support.js';

describe('open windows of an earlier version', () => {
  let path: string;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'pipeline-windows-'));
  });
  afterEach(async () => {
    await rm(path, { recursive: true, force: true });
  });

  const minute = () => from(Readings).by('sensor').window({ interval: '1 minute', time: 'at', idle: 'hold' });

  @Injectable()
  class Before {
    @Pipeline('counts')
    counts() {
      return minute().count().to(Out);
    }
  }
  @Injectable()
  class OtherAggregate {
    @Pipeline('counts')
    counts() {
      return minute()
        .aggregate((a) => ({ sum: a.sum('celsius') }))
        .to(Out);
    }
  }
  @Injectable()
  class OtherInterval {
    @Pipeline('counts')
    counts() {
      return from(Readings).by('sensor').window({ interval: '1 hour', time: 'at', idle: 'hold' }).count().to(Out);
    }
  }
  @Injectable()
  class WithoutWindows {
    @Pipeline('counts')
    counts() {
      return from(Readings).to(Out);
    }
  }

  it.each([[OtherAggregate], [OtherInterval], [WithoutWindows]])(
    'hold up %o, until they are given out',
    async (After) => {
      const before = await startOn(lmdbStore({ path }), Before);
      await give(before, Readings, reading(1));
      await application().close();
      const after = await startOn(lmdbStore({ path }), After);
      await give(after, Readings, reading(2));
      const status = (harness: typeof after) => harness.status().find(({ key }) => key.stream === 'readings');
      expect(status(after)?.lastError?.code).toBe(ErrorCode.StageChanged);
      expect(after.outputs(Out)).toEqual([]);
      await application().close();
      const again = await startOn(lmdbStore({ path }), Before);
      await again.advance('1 minute');
      await again.flush(Readings);
      expect(again.outputs(Out)).toMatchObject([{ key: 'a', value: 2, partial: true }]);
      await application().close();
      const last = await startOn(lmdbStore({ path }), After);
      await give(last, Readings, reading(5_000_000));
      await last.flush(Readings);
      expect(status(last)?.lastError).toBeUndefined();
      expect(last.outputs(Out)).toHaveLength(1);
      await application().close();
    },
  );
});

describe('windows that were given out before the options changed', () => {
  let path: string;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'pipeline-windows-'));
  });
  afterEach(async () => {
    await rm(path, { recursive: true, force: true });
  });

  const kinds = [
    { interval: '1 minute', empty: true, time: 'at' },
    { interval: '1 minute', every: '30s', empty: true, time: 'at' },
    { interval: '1 minute', lateness: '1 hour', time: 'at' },
    { interval: '1 minute', every: '30s', lateness: '1 hour', time: 'at' },
    { interval: '1 minute', every: 'message', time: 'at' },
    { gap: '1 minute', lateness: '1 hour', time: 'at' },
  ] as const;

  it.each(kinds)('are not open: %o', async (kind) => {
    @Injectable()
    class Before {
      @Pipeline('counts')
      counts() {
        return from(Readings)
          .by('sensor')
          .window(kind as { interval: '1 minute'; time: 'at' })
          .count()
          .to(Out);
      }
    }
    @Injectable()
    class After {
      @Pipeline('counts')
      counts() {
        return from(Readings).by('sensor').window({ interval: '5s', time: 'at' }).count().to(Out);
      }
    }
    const before = await startOn(lmdbStore({ path }), Before);
    await give(before, Readings, reading(1), reading(2_000));
    await before.flush(Readings);
    await before.advance('1s');
    expect(before.outputs(Out).length).toBeGreaterThan(0);
    await application().close();
    const after = await startOn(lmdbStore({ path }), After);
    await give(after, Readings, reading(10_000_000, 'b'));
    await after.advance('10s');
    expect(after.status().find(({ key }) => key.stream === 'readings')?.lastError).toBeUndefined();
    expect(after.outputs(Out)).toMatchObject([{ key: 'b', value: 1, start: new Date(10_000_000) }]);
    await application().close();
  });
});

describe('streams that windows need for themselves', () => {
  const counts = (name?: string) =>
    from(Readings)
      .by('sensor')
      .window({ size: 2 }, name === undefined ? {} : { name })
      .count();

  @Injectable()
  class AppendsThere {
    @Pipeline('counts')
    counts() {
      return counts().to(defineStream('counts/results'));
    }
  }
  @Injectable()
  class ReadsThere {
    @Pipeline('counts')
    counts() {
      return counts().to(Out);
    }
    @Pipeline('reader')
    reader() {
      return from(defineStream('counts/results')).to(Out);
    }
  }
  @Injectable()
  class SameNames {
    @Pipeline('a')
    one() {
      return counts('b').to(Out);
    }
    @Pipeline('a/b')
    other() {
      return counts().to(Out);
    }
  }

  it.each([[AppendsThere], [ReadsThere], [SameNames]])('are used by nothing else: %o', async (provider) => {
    await expect(startOn(memoryStore(), provider)).rejects.toThrow(/need that stream for themselves/);
  });
});
