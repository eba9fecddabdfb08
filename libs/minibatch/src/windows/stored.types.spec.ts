import type { Binary, Long, ObjectId } from 'bson';
import { describe, expectTypeOf, it } from 'vitest';
import { Streaming } from '../consumers/streaming.decorator.js';
import { defineStream } from '../definitions/stream-ref.js';
import type { Stored } from './stored.js';
import { Window } from './window.js';

// Checked by `tsc --noEmit`.

interface Flight {
  origin: string;
  delay?: number;
  stops: readonly { at: Date; gate: string | null }[];
  count: bigint;
}

interface Tree {
  value: number;
  children: Tree[];
}

class Money {
  readonly #cents = 0;
  constructor(readonly amount: number) {}
  cents(): number {
    return this.#cents;
  }
}

class Celsius {
  constructor(readonly degrees: number) {}
  toJSON(): { degrees: number } {
    return { degrees: this.degrees };
  }
}

describe('Stored', () => {
  it('is the same type where nothing changes', () => {
    expectTypeOf<Stored<Flight>>().toEqualTypeOf<Flight>();
    expectTypeOf<Tree>().toExtend<Stored<Tree>>();
    expectTypeOf<Stored<Tree>>().toExtend<Tree>();
    expectTypeOf<Stored<string | number[]>>().toEqualTypeOf<string | number[]>();
    expectTypeOf<Stored<ObjectId>>().toEqualTypeOf<ObjectId>();
    expectTypeOf<Stored<unknown>>().toEqualTypeOf<unknown>();
    expectTypeOf<Stored<never>>().toEqualTypeOf<never>();
  });

  it('says what comes back of the rest', () => {
    expectTypeOf<Stored<Uint8Array>>().toEqualTypeOf<Buffer>();
    expectTypeOf<Stored<Money>>().toEqualTypeOf<{ readonly amount: number }>();
    expectTypeOf<Stored<{ price: Money; at: Celsius }>>().toEqualTypeOf<{
      price: { readonly amount: number };
      at: { degrees: number };
    }>();
    expectTypeOf<Stored<URL>>().toEqualTypeOf<string>();
    expectTypeOf<Stored<{ id: Long; raw: Binary }>>().toEqualTypeOf<{ id: bigint; raw: Binary }>();
    expectTypeOf<Stored<() => void>>().toEqualTypeOf<never>();
  });

  it('is what a method is checked against', () => {
    const Flights = defineStream<Flight>('flights');
    const Prices = defineStream<Money>('prices');
    class Consumers {
      @Streaming(Flights, { size: 1 })
      plain(window: Window<Flight>): void {
        expectTypeOf(window.data).toEqualTypeOf<readonly Flight[]>();
      }
      @Streaming(Prices, { size: 1 })
      stored(_window: Window<Stored<Money>>): void {}

      // @ts-expect-error its methods do not come back
      @Streaming(Prices, { size: 1 })
      methods(_window: Window<Money>): void {}
    }
    expectTypeOf<Consumers>().not.toBeNever();
  });
});
