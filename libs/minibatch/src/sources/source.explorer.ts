import { Injectable } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { noteFound } from '../definitions/decorated-classes.js';
import { providerHosts, requireInstance } from '../definitions/provider-hosts.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import type { Source } from './source.interface.js';
import { type StreamSourceOptions, streamSourcesOf } from './stream-source.decorator.js';

/** One `@StreamSource`, found on an instance. */
export interface FoundSource {
  readonly stream: string;
  /** What `defineStream` was given for it. */
  readonly settings?: StreamSettings;
  readonly options: StreamSourceOptions;
  /** The class. */
  readonly label: string;
  readonly source: Source;
}

/** Finds the providers that carry `@StreamSource`. */
@Injectable()
export class SourceExplorer {
  constructor(private readonly discovery: DiscoveryService) {}

  /** @throws MinibatchError `ScopedHost`, `UnresolvedProvider` */
  explore(): readonly FoundSource[] {
    const found: FoundSource[] = [];
    for (const host of providerHosts(this.discovery)) {
      const label = host.type.name;
      for (const entry of streamSourcesOf(host.type)) {
        const source = requireInstance(host, label, '@StreamSource');
        noteFound(source);
        found.push({ ...entry, label, source: requireSource(label, source) });
      }
    }
    return found;
  }
}

function requireSource(label: string, instance: object): Source {
  if ('stream' in instance && typeof instance.stream === 'function') return instance as Source;
  throw new MinibatchError(
    ErrorCode.UnresolvedProvider,
    `${label} is not a source: it needs a method stream(target, signal)`,
    { details: { source: label } },
  );
}
