import 'reflect-metadata';
import { Injectable, type ModuleMetadata, Scope } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { defineStream } from '../definitions/stream-ref.js';
import { SourceExplorer } from './source.explorer.js';
import type { Source } from './source.interface.js';
import { StreamSource } from './stream-source.decorator.js';

interface Tick {
  at: number;
}
const Ticks = defineStream<Tick>('ticks');

async function explore({ providers = [] }: ModuleMetadata) {
  const app = await Test.createTestingModule({
    imports: [DiscoveryModule],
    providers: [SourceExplorer, ...providers],
  }).compile();
  return app.get(SourceExplorer).explore();
}

@Injectable()
@StreamSource(Ticks, { name: 'clock' })
class Clock implements Source<Tick> {
  async *stream() {
    yield { at: 1 };
  }
}

describe('SourceExplorer', () => {
  it('finds decorated providers, each once', async () => {
    const found = await explore({ providers: [Clock, { provide: 'alias', useExisting: Clock }] });
    expect(found).toEqual([
      { stream: 'ticks', options: { name: 'clock' }, label: 'Clock', source: expect.any(Clock) as Clock },
    ]);
  });

  it('takes a class for several streams', async () => {
    @StreamSource('a')
    @StreamSource('b')
    class Both implements Source {
      async stream() {}
    }
    expect((await explore({ providers: [Both] })).map(({ stream }) => stream)).toEqual(['a', 'b']);
  });

  it('does not take a subclass for its base', async () => {
    class Other extends Clock {}
    expect(await explore({ providers: [Other] })).toEqual([]);
  });

  it('refuses scoped providers', async () => {
    @Injectable({ scope: Scope.REQUEST })
    @StreamSource('a')
    class Scoped implements Source {
      async stream() {}
    }
    await expect(explore({ providers: [Scoped] })).rejects.toMatchObject({
      code: ErrorCode.ScopedHost,
      message: expect.stringContaining('Scoped: @StreamSource needs a provider with one instance') as string,
    });
  });

  it('refuses what is not a source, and what feeds another type', async () => {
    // @ts-expect-error it has no stream()
    @StreamSource('a')
    class None {}
    await expect(explore({ providers: [None] })).rejects.toMatchObject({ code: ErrorCode.UnresolvedProvider });

    // @ts-expect-error its items are strings
    @StreamSource(Ticks)
    class Texts {
      async *stream() {
        yield 'text';
      }
    }
    expect(await explore({ providers: [Texts] })).toHaveLength(1);
  });
});
