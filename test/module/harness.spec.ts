import { Injectable } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { ErrorCode, Streaming, type Window } from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it } from 'vitest';

interface Flight {
  readonly delay: number;
}

@Injectable()
class FlightReport {
  @Streaming<Flight>('flights', { size: 100, interval: '2s' })
  summarize(window: Window<Flight>) {
    return { flights: window.data.length, worst: Math.max(...window.data.map(({ delay }) => delay)) };
  }
}

@Injectable()
class Hanging {
  @Streaming('hanging', { size: 1 })
  hang() {
    return new Promise<void>(() => undefined);
  }
}

describe('MinibatchTestingModule', () => {
  let app: TestingModule;
  const boot = async (...providers: (new () => object)[]) => {
    app = await Test.createTestingModule({ imports: [MinibatchTestingModule.forRoot()], providers }).compile();
    app.useLogger(false);
    await app.init();
    return app.get(MinibatchHarness);
  };
  afterEach(() => app.close());

  it('runs windows by a clock that the test moves', async () => {
    const harness = await boot(FlightReport);
    await harness.append<Flight>('flights', { delay: 25 });
    await harness.append<Flight>('flights', { delay: 7 });
    await harness.advance('1s');
    expect(harness.results(FlightReport, 'summarize')).toEqual([]);
    await harness.advance('1s');
    expect(harness.results(FlightReport, 'summarize')).toEqual([{ flights: 2, worst: 25 }]);
  });

  it('emits the tail on flush', async () => {
    const harness = await boot(FlightReport);
    await harness.appendMany<Flight>('flights', [{ delay: 1 }, { delay: 2 }]);
    await harness.flush('flights');
    expect(harness.windows(FlightReport, 'summarize').map(({ window }) => window.data)).toEqual([
      [{ delay: 1 }, { delay: 2 }],
    ]);
  });

  it('says which consumers there are when asked for another', async () => {
    const harness = await boot(FlightReport);
    expect(() => harness.results(Hanging, 'hang')).toThrow(
      expect.objectContaining({
        code: ErrorCode.UnresolvedProvider,
        message: expect.stringContaining('FlightReport.summarize'),
      }),
    );
  });

  it('closes although a handler hangs', async () => {
    const harness = await boot(Hanging);
    void harness.append('hanging', 1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(harness.status()[0]?.label).toBe('Hanging.hang');
  });

  it('lets an hour pass in a moment', async () => {
    const harness = await boot(FlightReport);
    await harness.advance('1h');
    await harness.append<Flight>('flights', { delay: 3 });
    await harness.advance('1h');
    expect(harness.results(FlightReport, 'summarize')).toEqual([{ flights: 1, worst: 3 }]);
  });
});
