import { Injectable } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import { invalidOption } from '../common/checks.js';
import type { RegisteredConsumer } from '../consumers/consumer.registry.js';
import { noteFound } from '../definitions/decorated-classes.js';
import { type ProviderHost, providerHosts, requireInstance } from '../definitions/provider-hosts.js';
import type { ResolvedAttempts } from '../definitions/shared.options.js';
import { bareMessageOf, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { type FlowOutlet, isOutlet } from './flow-node.js';
import { type PipelineEntry, pipelineEntriesOf } from './pipeline.decorator.js';
import { planPipeline, type StagePlan, targetStreams } from './pipeline.plan.js';

/** The consumer of one stream that a pipeline reads. Its group is the pipeline's name. */
export interface PipelineConsumer extends RegisteredConsumer {
  readonly plan: StagePlan;
}

export function isPipeline(consumer: RegisteredConsumer): consumer is PipelineConsumer {
  return 'plan' in consumer;
}

interface KnownPipeline {
  readonly label: string;
  readonly instance: object;
  readonly entry: PipelineEntry;
  readonly module: string;
}

/** Finds the methods that carry `@Pipeline`, and calls each once. */
@Injectable()
export class PipelineExplorer {
  private readonly known = new Map<string, KnownPipeline>();
  /** Of all pipelines, each with its `Class.method`. */
  private readonly plans: { readonly label: string; readonly plan: StagePlan }[] = [];

  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
  ) {}

  /**
   * Those that were not found before.
   *
   * @throws MinibatchError `InvalidOptions`, `DuplicateGroup`, `ScopedHost`, `NotInjectable`
   */
  explore(defaults: ResolvedAttempts): readonly PipelineConsumer[] {
    const found: PipelineConsumer[] = [];
    for (const host of providerHosts(this.discovery)) {
      for (const method of this.scanner.getAllMethodNames(host.prototype)) {
        for (const entry of pipelineEntriesOf(host.prototype, method)) {
          found.push(...this.take(host, method, entry, defaults));
        }
      }
    }
    this.checkOwnStreams();
    return found;
  }

  /** What is in the streams that windows need for themselves is for them alone. @throws MinibatchError `InvalidOptions` */
  private checkOwnStreams(): void {
    const owners = new Map<string, string>();
    for (const { label, plan } of this.plans) {
      for (const stream of plan.steps.flatMap(({ streams }) => Object.values(streams))) {
        const other = owners.get(stream) ?? label;
        if (other !== label) throw taken(label, stream, other);
        owners.set(stream, label);
      }
    }
    for (const { label, plan } of this.plans) {
      const used = [...targetStreams(plan), ...(plan.roots.some(({ work }) => work.kind === 'from') ? [plan] : [])];
      for (const { stream } of used) {
        const owner = owners.get(stream);
        if (owner !== undefined) throw taken(label, stream, owner);
      }
    }
  }

  private take(
    host: ProviderHost,
    method: string,
    entry: PipelineEntry,
    defaults: ResolvedAttempts,
  ): readonly PipelineConsumer[] {
    const label = `${host.type.name}.${method}`;
    const instance = requireInstance(host, label, '@Pipeline');
    noteFound(instance);
    const { module } = host;
    const { name, options } = entry;
    const other = this.known.get(name);
    if (other?.entry === entry && other.instance === instance) return [];
    if (other) throw duplicate(name, other, { label, instance, entry, module: module.name });
    const outlets = outletsOf(label, instance, method);
    const plans = planPipeline(label, name, options, outlets, defaults);
    this.known.set(name, { label, instance, entry, module: module.name });
    this.plans.push(...plans.map((plan) => ({ label, plan })));
    return plans.map((plan) => {
      const { stream, settings, resolved } = plan;
      const consumer = { stream, options, label, instance, method, module, resolved, plan };
      return settings ? { ...consumer, settings } : consumer;
    });
  }
}

function taken(label: string, stream: string, owner: string): MinibatchError {
  return invalidOption(
    label,
    'stream',
    stream,
    `another name: the windows of ${owner} need that stream for themselves`,
  );
}

function duplicate(name: string, other: KnownPipeline, own: KnownPipeline): MinibatchError {
  const hint =
    other.label === own.label
      ? `its class is a provider in two modules (${other.module}, ${own.module}): provide it in one, and export it`
      : 'the progress of a pipeline is stored under its name: give each a name of its own';
  return new MinibatchError(
    ErrorCode.DuplicateGroup,
    `${other.label} and ${own.label} are both the pipeline '${name}': ${hint}`,
    { details: { pipeline: name, consumers: [other.label, own.label] } },
  );
}

/** @throws MinibatchError `InvalidOptions` */
function outletsOf(label: string, instance: object, method: string): readonly FlowOutlet[] {
  let returned: unknown;
  try {
    returned = (instance as Record<string, () => unknown>)[method]?.();
  } catch (cause) {
    // What is wrong with a step is said by the step, which does not know whose it is.
    throw new MinibatchError(ErrorCode.InvalidOptions, `${label}: ${bareMessageOf(cause)}`, {
      cause,
      details: { consumer: label },
    });
  }
  const outlets: readonly unknown[] = Array.isArray(returned) ? returned : [returned];
  if (outlets.length > 0 && outlets.every(isOutlet)) return outlets;
  const allowed = 'an outlet, which .to(Stream) and .into(sink) return, or an array of them';
  throw invalidOption(label, 'what it returns', returned, allowed);
}
