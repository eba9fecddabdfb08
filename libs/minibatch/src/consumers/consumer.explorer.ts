import { Injectable } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import type { NamedSink } from '../engine/engine.interface.js';
import { requireInjectable } from '../definitions/injectable.js';
import { noteFound } from '../definitions/decorated-classes.js';
import { providerHosts, requireInstance } from '../definitions/provider-hosts.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import type { HostModule } from './host-module.js';
import { streamingEntriesOf } from './streaming.decorator.js';

/** One `@Streaming`, found on an instance. */
export interface FoundConsumer {
  /** Its name, or the pattern as text. */
  readonly stream: string;
  /** It consumes all streams whose names match. */
  readonly pattern?: RegExp;
  /** What `defineStream` was given for it. */
  readonly settings?: StreamSettings;
  /** As given to the decorator. */
  readonly options: unknown;
  /** `Class.method`. */
  readonly label: string;
  readonly instance: object;
  readonly method: string;
  readonly module: HostModule;
}

/** Finds the methods that carry `@Streaming`. */
@Injectable()
export class ConsumerExplorer {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
  ) {}

  /** @throws MinibatchError `ScopedHost`, `NotInjectable` */
  explore(): readonly FoundConsumer[] {
    const found: FoundConsumer[] = [];
    for (const host of providerHosts(this.discovery)) {
      const { prototype } = host;
      for (const method of this.scanner.getAllMethodNames(prototype)) {
        const label = `${host.type.name}.${method}`;
        for (const entry of streamingEntriesOf(prototype, method)) {
          const instance = requireInstance(host, label, '@Streaming');
          noteFound(instance);
          found.push({ ...entry, label, instance, method, module: host.module });
        }
      }
    }
    return found;
  }

  /** Of the sinks of a consumer, those that Nest has made. @throws MinibatchError `NotInjectable` */
  checkSinks(label: string, sinks: readonly NamedSink[]): void {
    if (sinks.length === 0) return;
    for (const { instance, created } of providerHosts(this.discovery)) {
      if (created && sinks.some(({ sink }) => sink === instance)) requireInjectable(label, created);
    }
  }
}
