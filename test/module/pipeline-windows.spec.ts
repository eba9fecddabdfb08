import { Injectable, type Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { describe, expect, it } from 'vitest';
import { defineStream } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';

interface Line {
  readonly text: string;
  readonly at: number;
}
interface WordCount {
  readonly word: string;
  readonly n: number;
  readonly minute: Date;
}
const Lines = defineStream<Line>('lines');
const Words = defineStream<WordCount>('word-counts');

@Injectable()
class WordCounter {
  @Pipeline('word-count')
  words() {
    return from(Lines)
      .timed('at', { wait: '5s' })
      .flatMap(({ text }) => text.toLowerCase().match(/\p{L}+/gu) ?? [])
      .by((word) => word)
      .window({ interval: '1 minute' })
      .count()
      .map(({ key, value, start }) => ({ word: key, n: value, minute: start }))
      .to(Words);
  }
}

async function start(provider: Type) {
  const app = await Test.createTestingModule({
    imports: [MinibatchTestingModule.forRoot()],
    providers: [provider],
  }).compile();
  await app.init();
  return { app, harness: app.get(MinibatchHarness) };
}

describe('windows of a pipeline', () => {
  it('count words by the minute', async () => {
    const { app, harness } = await start(WordCounter);
    await harness.append(Lines, { text: 'a rose is a rose', at: 1_000 });
    await harness.append(Lines, { text: 'is a rose', at: 61_000 });
    await harness.advance('1s');
    expect(harness.outputs(Words)).toEqual([]);
    await harness.advance('1s');
    await harness.append(Lines, { text: 'the end', at: 200_000 });
    await harness.advance('1s');
    console.log(harness.outputs(Words));
    await app.close();
  });
});
