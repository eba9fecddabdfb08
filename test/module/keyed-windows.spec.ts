import { Injectable } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { defineStream, ErrorCode, type Sink, Streaming, type Window } from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { describe, expect, it } from 'vitest';

interface Click {
  readonly user: string;
  readonly page: string;
}
const Clicks = defineStream<Click>('clicks');

@Injectable()
class Visits implements Sink<string> {
  readonly found: string[] = [];

  @Streaming(Clicks, { by: 'user', gap: '30 minutes', workers: 4, sink: Visits })
  visit({ key, data, late }: Window<Click>): string {
    return `${key} ${data.map(({ page }) => page).join()}${late ? ' late' : ''}`;
  }

  put(result: string): void {
    this.found.push(result);
  }
}

describe('windows by key, in the harness', () => {
  it('end by the virtual clock', async () => {
    const module = await Test.createTestingModule({
      imports: [MinibatchTestingModule.forRoot()],
      providers: [Visits],
    }).compile();
    await module.init();
    const harness = module.get(MinibatchHarness);
    const visits = module.get(Visits);
    await harness.append(Clicks, { user: 'ann', page: 'home' });
    await harness.append(Clicks, { user: 'bob', page: 'home' });
    await harness.advance('20 minutes');
    await harness.append(Clicks, { user: 'ann', page: 'cart' });
    await harness.advance('20 minutes');
    expect(visits.found).toEqual(['bob home']);
    await harness.advance('20 minutes');
    expect(visits.found).toEqual(['bob home', 'ann home,cart']);
    await harness.append(Clicks, { user: 'ann', page: 'pay' });
    await harness.flush(Clicks);
    expect(visits.found.at(-1)).toBe('ann pay');
    await module.close();
  });

  it('are refused at boot for a stream with partitions, and with options that do not fit', async () => {
    const Parted = defineStream<Click>('parted', { partitions: 4 });
    @Injectable()
    class OfParted {
      @Streaming(Parted, { by: 'user', size: 3 })
      take(): void {}
    }
    @Injectable()
    class Wrong {
      @Streaming(Clicks, { by: 'user', interval: '10s', every: '20s' })
      take(): void {}
    }
    for (const [host, option] of [
      [OfParted, 'partitions'],
      [Wrong, 'every'],
    ] as const) {
      const booting = Test.createTestingModule({ imports: [MinibatchTestingModule.forRoot()], providers: [host] })
        .compile()
        .then((module) => module.init());
      await expect(booting).rejects.toMatchObject({
        code: ErrorCode.InvalidOptions,
        message: expect.stringContaining(`${host.name}.take`),
        details: { option },
      });
    }
  });
});
