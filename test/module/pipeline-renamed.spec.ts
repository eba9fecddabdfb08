import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { StatusService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { application, give, Others, Out, reading, Readings, startOn } from './pipeline-windows.support.js';

/** Results and items have to wait, for what a function calls is away. */
let isAway = true;
const goingOut = (n: unknown) => (isAway ? Promise.reject(new Error('away')) : Promise.resolve(n));

function windows(name?: string) {
  const flow = from(Readings).by('sensor');
  const options = { interval: '1 minute', time: 'at', idle: 'hold' } as const;
  const counted = name === undefined ? flow.window(options).count() : flow.window(options, { name }).count();
  return counted.map(({ key, value }) => `${key} ${value}`).map(goingOut);
}

@Injectable()
class Before {
  @Pipeline('before')
  run() {
    return windows().to(Out);
  }
}
@Injectable()
class After {
  @Pipeline('after', { replaces: 'before' })
  run() {
    return windows().to(Out);
  }
}
@Injectable()
class Unrelated {
  @Pipeline('after')
  run() {
    return windows().to(Out);
  }
}
@Injectable()
class TwoBefore {
  @Pipeline('before')
  run() {
    return [windows('one').to(Out), windows('two').to(Others)];
  }
}
@Injectable()
class TwoAfter {
  @Pipeline('after', { replaces: 'before' })
  run() {
    return [windows('one').to(Out), windows('two').to(Others)];
  }
}

describe('a pipeline with windows that is renamed', () => {
  let path: string;
  beforeEach(async () => {
    isAway = true;
    path = await mkdtemp(join(tmpdir(), 'pipeline-renamed-'));
  });
  afterEach(async () => {
    await rm(path, { recursive: true, force: true });
  });

  const readings = [reading(1), reading(2), reading(61_000)];
  const leave = async (host: new () => object) => {
    const before = await startOn(lmdbStore({ path }), host);
    await give(before, Readings, ...readings);
    await application().close();
    isAway = false;
  };
  const streams = async () => (await application().get(StatusService).snapshot()).streams.map(({ name }) => name);

  it('goes on with the results that wait, and with open windows, of the one that it replaces', async () => {
    await leave(Before);
    const after = await startOn(lmdbStore({ path }), After);
    await after.advance('1 minute');
    expect(after.outputs(Out)).toEqual(['a 2']);
    await give(after, Readings, reading(121_000));
    await after.advance('1 minute');
    expect(after.outputs(Out)).toEqual(['a 2', 'a 1']);
    // Streams that were not there are not made.
    expect(await streams()).not.toContain('before/items');
  });

  it('goes on with what several steps have in streams of their own', async () => {
    await leave(TwoBefore);
    const after = await startOn(lmdbStore({ path }), TwoAfter);
    await after.advance('1 minute');
    expect([after.outputs(Out), after.outputs(Others)]).toEqual([['a 2'], ['a 2']]);
    const left = await application().get(StatusService).snapshot();
    for (const { name, stored } of left.streams)
      if (name.startsWith('before/')) expect([name, stored?.buffered]).toEqual([name, 0]);
  });

  it('without saying so leaves what waits, and says what to do about it', async () => {
    await leave(Before);
    const after = await startOn(lmdbStore({ path }), Unrelated);
    await after.advance('5 minutes');
    const { health } = await application().get(StatusService).snapshot();
    const reason = health.reasons.find(({ stream }) => stream === 'before/results');
    expect(reason).toMatchObject({ what: 'group-unserved', group: 'before' });
    expect(reason?.message).toMatch(
      /1 message waiting: windows of the pipeline 'before' .* replaces: 'before' .* to lose them, streams.removeGroup/s,
    );
  });
});
