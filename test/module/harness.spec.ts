import { Injectable } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  defineStream,
  ErrorCode,
  RejectMessages,
  ResultRefused,
  type Sink,
  Streaming,
  type Window,
} from 'nestjs-minibatch';
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

@Injectable()
class Limited {
  readonly taken: unknown[] = [];
  @Streaming('limited', { size: 1, rateLimit: { windows: 1, per: '10s' } })
  take({ data }: Window) {
    this.taken.push(...data);
  }
}

@Injectable()
class Wavering {
  readonly attempts: number[] = [];
  @Streaming('wavering', { size: 2, retry: { attempts: 5 } })
  take(window: Window) {
    this.attempts.push(window.attempt);
    if (window.attempt > 2) return;
    window.messages.forEach((message) => window.reject(message, 'too early'));
    if (window.attempt === 1) throw new Error('away');
    throw new RejectMessages([{ message: { id: 'of another window' }, reason: 'wrong' }]);
  }
}

@Injectable()
class Ledger implements Sink<number> {
  readonly totals: number[] = [];
  readonly ids: string[] = [];
  put(total: number, window: Window) {
    this.totals.push(total);
    this.ids.push(window.id);
  }
}

@Injectable()
class Refused {
  @Streaming('refused', { size: 2, onRefused: 'deadLetter', sink: Ledger })
  take(window: Window<number>) {
    for (const message of window.messages) if (message.data < 0) window.reject(message, 'negative');
    return window.data.length;
  }
}

interface Payment {
  readonly amount: number;
}

const PaymentStream = defineStream<Payment>('payments');

@Injectable()
class Payments {
  static readonly gates: (() => void)[] = [];
  static isHeld = false;

  @Streaming(PaymentStream, { size: 3, sink: Ledger, retry: { attempts: 2 }, onRefused: 'deadLetter' })
  async total(window: Window<Payment>) {
    if (Payments.isHeld) await new Promise<void>((resolve) => Payments.gates.push(resolve));
    const thrown = window.messages.filter(({ data }) => data.amount > 1_000);
    if (thrown.length > 0) throw new RejectMessages(thrown.map((message) => ({ message, reason: 'too much' })));
    for (const message of window.messages) if (message.data.amount < 0) window.reject(message, 'negative');
    return window.data.reduce((sum, { amount }) => sum + amount, 0);
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

  const amounts = (...all: number[]) => all.map((amount) => ({ amount }));

  it('tells what was rejected, and what became a dead letter', async () => {
    const harness = await boot(Payments, Ledger);
    await harness.appendMany(PaymentStream, amounts(1, -2, 3, 4, 5_000, 6));
    await harness.advance('10 minutes');
    expect(harness.rejected(Payments, 'total').map(({ message, reason }) => [message.data, reason])).toEqual([
      [{ amount: -2 }, 'negative'],
      [{ amount: 5_000 }, 'too much'],
    ]);
    expect((await harness.deadLetters('payments')).map(({ data }) => data).toSorted()).toEqual(amounts(-2, 5_000));
    expect(await harness.deadLetters('payments', { group: 'other' })).toEqual([]);
    expect(await harness.deadLetters('other')).toEqual([]);
  });

  it('tells nothing of what an attempt has rejected that then fails', async () => {
    const harness = await boot(Wavering);
    await harness.appendMany('wavering', [1, 2]);
    await harness.advance('10 minutes');
    expect(app.get(Wavering).attempts).toEqual([1, 2, 3]);
    expect(harness.rejected(Wavering, 'take')).toEqual([]);
    expect(await harness.deadLetters('wavering')).toEqual([]);
  });

  it('tells nothing of what an attempt has rejected whose result a sink refuses', async () => {
    const harness = await boot(Refused, Ledger);
    harness.failSink(Ledger, new ResultRefused('unknown account'));
    await harness.appendMany('refused', [-1, 2]);
    await harness.advance('10 minutes');
    const letters = await harness.deadLetters('refused');
    expect(letters.map(({ error }) => error)).toEqual(Array(2).fill(expect.stringContaining('unknown account')));
    expect(harness.rejected(Refused, 'take')).toEqual([]);
  });

  it('lets a sink fail for as long as the test wants', async () => {
    const harness = await boot(Payments, Ledger);
    const ledger = app.get(Ledger);
    const outage = harness.failSink(Ledger, new Error('no connection'));
    await harness.appendMany(PaymentStream, amounts(1, 2, 3));
    await harness.advance('10 minutes');
    expect(ledger.totals).toEqual([]);
    expect(outage.tries).toBeGreaterThan(2);
    expect(harness.status()).toMatchObject([
      { activity: 'blocked', blockedSinks: [{ sink: 'Ledger', error: 'no connection' }] },
    ]);
    outage.restore();
    await harness.advance('2 minutes');
    expect(ledger.totals).toEqual([6]);
    // The sink is to blame and not the messages, so the method ran once.
    expect(harness.windows(Payments, 'total')).toHaveLength(1);
  });

  it('lets a sink fail a number of times, and refuse results', async () => {
    const harness = await boot(Payments, Ledger);
    const once = harness.failSink(Ledger, undefined, 1);
    await harness.appendMany(PaymentStream, amounts(1, 2, 3));
    await harness.advance('1 minute');
    expect([once.tries, app.get(Ledger).totals]).toEqual([1, [6]]);
    harness.failSink(Ledger, new ResultRefused('too large'));
    await harness.appendMany(PaymentStream, amounts(4, 5, 6));
    await harness.advance('10 minutes');
    expect(await harness.deadLetters('payments')).toHaveLength(3);
    expect(() => harness.failSink('Legder')).toThrow('no consumer has a sink Legder; sinks are: Ledger');
  });

  it('restarts in the middle of a window, which is redelivered with its id', async () => {
    const harness = await boot(Payments, Ledger);
    const ledger = app.get(Ledger);
    Payments.isHeld = true;
    void harness.appendMany(PaymentStream, amounts(1, 2, 3));
    while (Payments.gates.length === 0) await new Promise((resolve) => setImmediate(resolve));
    Payments.isHeld = false;
    await harness.restart();
    expect(ledger.totals).toEqual([6]);
    // What the process that died was doing has no effect.
    for (const open of Payments.gates.splice(0)) open();
    await harness.advance('1 minute');
    expect(ledger.totals).toEqual([6]);
    expect(harness.windows(Payments, 'total').map(({ window }) => window.id)).toEqual(ledger.ids);
    await harness.appendMany(PaymentStream, amounts(4, 5, 6));
    expect(ledger.totals).toEqual([6, 15]);
  });

  it('resolves what waits for consumers that a restart ends when the new ones have come to rest', async () => {
    const harness = await boot(Payments, Ledger);
    Payments.isHeld = true;
    const appended = harness.appendMany(PaymentStream, amounts(1, 2, 3)).then(() => app.get(Ledger).totals.length);
    while (Payments.gates.length === 0) await new Promise((resolve) => setImmediate(resolve));
    Payments.isHeld = false;
    const settled = harness.settled();
    await harness.restart();
    expect(await appended).toBe(1);
    await settled;
    Payments.gates.splice(0);
  });

  it('restarts twice while time passes, which never runs back', async () => {
    const harness = await boot(FlightReport);
    const from = harness.clock.monotonic();
    await Promise.all([harness.restart(), harness.advance('1s'), harness.restart()]);
    expect(harness.clock.monotonic() - from).toBeGreaterThanOrEqual(1_000);
    await harness.append<Flight>('flights', { delay: 3 });
    await harness.advance('2s');
    expect(harness.results(FlightReport, 'summarize')).toEqual([{ flights: 1, worst: 3 }]);
  });

  it('has committed what is finished when the rate limit holds back the next window', async () => {
    const harness = await boot(Limited);
    await harness.appendMany('limited', [1, 2]);
    await harness.restart();
    await harness.advance('1 minute');
    expect(app.get(Limited).taken).toEqual([1, 2]);
  });

  it('forgets no backoff and no dead letter by a restart', async () => {
    const harness = await boot(Payments, Ledger);
    await harness.appendMany(PaymentStream, amounts(-1, 2, 3));
    await harness.restart();
    await harness.restart();
    await harness.advance('10 minutes');
    expect((await harness.deadLetters('payments')).map(({ data }) => data)).toEqual(amounts(-1));
  });

  it('lets an hour pass in a moment', async () => {
    const harness = await boot(FlightReport);
    await harness.advance('1h');
    await harness.append<Flight>('flights', { delay: 3 });
    await harness.advance('1h');
    expect(harness.results(FlightReport, 'summarize')).toEqual([{ flights: 1, worst: 3 }]);
  });
});
