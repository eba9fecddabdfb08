import { Injectable } from '@nestjs/common';
import { type Message, StreamService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { describe, expect, it } from 'vitest';
import {
  application,
  give,
  Late,
  Others,
  Out,
  type Reading,
  reading,
  Readings,
  start,
} from './pipeline-windows.support.js';

const HEADERS = { traceparent: '00-1-2-01', tenant: 'north' };

/** What functions are shown, by pipeline. */
const seen = new Map<string, unknown[]>();
function note(pipeline: string) {
  return (data: Reading, { id, key, headers, created }: Message) => {
    seen.set(pipeline, [...(seen.get(pipeline) ?? []), { at: data.at, id, key, headers, created: created.getTime() }]);
  };
}
const windows = { interval: '1 minute', time: 'at' } as const;

@Injectable()
class AtOnce {
  @Pipeline('p')
  run() {
    const flow = from(Readings).by('sensor').window(windows);
    return [flow.count().to(Others), flow.late.tap(note('AtOnce')).to(Out)];
  }
}
@Injectable()
class ByStream {
  @Pipeline('p')
  run() {
    const flow = from(Readings).by('sensor').window(windows);
    return [
      flow.count().to(Others),
      flow.late
        .tap(note('ByStream'))
        .map(async (late) => late)
        .to(Out),
    ];
  }
}
/** Two steps read the source, so what they read goes by way of streams of their own. */
@Injectable()
class ByItems {
  @Pipeline('p')
  run() {
    const source = from(Readings);
    const [one, two] = ['one', 'two'].map((name) => source.by('sensor').window(windows, { name }));
    return [
      one!.count().to(Others),
      two!.count().to(Others),
      one!.late.tap(note('ByItems')).to(Out),
      two!.late
        .map(async (late) => late)
        .tap(note('ByItems and stream'))
        .to(Out),
    ];
  }
}
@Injectable()
class ToStream {
  @Pipeline('p')
  run() {
    const source = from(Readings);
    const late = { ...windows, late: Late };
    return [
      source.by('sensor').window(late, { name: 'one' }).count().to(Others),
      source.by('sensor').window(late, { name: 'two' }).count().to(Others),
    ];
  }
}
@Injectable()
class ToStreamAtOnce {
  @Pipeline('p')
  run() {
    return from(Readings)
      .by('sensor')
      .window({ ...windows, late: Late })
      .count()
      .to(Others);
  }
}

describe('late messages', () => {
  const appended = async (host: new () => object) => {
    seen.clear();
    const harness = await start(host);
    await give(harness, Readings, reading(90_000));
    const streams = application().get(StreamService);
    const created = harness.clock.now();
    const { id } = await streams.append(Readings, reading(1), { key: 'source', headers: HEADERS });
    await harness.advance('2 minutes');
    return { harness, expected: { at: 1, id, key: 'source', headers: HEADERS, created } };
  };

  it.each([
    [AtOnce, ['AtOnce']],
    [ByStream, ['ByStream']],
    [ByItems, ['ByItems', 'ByItems and stream']],
  ])('are shown as they were appended, whatever way they take (%o)', async (host, pipelines) => {
    const { expected } = await appended(host);
    for (const pipeline of pipelines) expect([pipeline, seen.get(pipeline)?.at(-1)]).toEqual([pipeline, expected]);
  });

  it.each([[ToStreamAtOnce], [ToStream]])('keep their key, headers and time in another stream (%o)', async (host) => {
    const { expected } = await appended(host);
    const { key, headers, created } = expected;
    const found: unknown[] = [];
    for await (const message of application().get(StreamService).stream(Late).messages()) {
      found.push({ key: message.key, headers: message.headers, created: message.created.getTime() });
    }
    expect(found.length).toBeGreaterThan(0);
    for (const each of found) expect(each).toEqual({ key, headers, created });
  });
});
