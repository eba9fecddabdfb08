import { Injectable } from '@nestjs/common';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { invalidOption } from '../common/checks.js';
import type { FoundConsumer } from './consumer.explorer.js';
import type { ResolvedStreaming } from './streaming.resolve.js';

/** A consumer of this application, whether it runs in this process or not. */
export interface RegisteredConsumer extends FoundConsumer {
  readonly resolved: ResolvedStreaming;
}

/** Remembers the consumers of this application; two of them never share a group of a stream. */
@Injectable()
export class ConsumerRegistry {
  private readonly consumers = new Map<string, RegisteredConsumer>();
  /** Streams that consumers name. */
  private readonly named = new Set<string>();
  private readonly patterns: RegisteredConsumer[] = [];
  private readonly byInstance = new WeakMap<object, Map<string, RegisteredConsumer[]>>();
  /** Labels of those that `stream.consume` and `stream.drain` have started, by stream and group. */
  private readonly reserved = new Map<string, { readonly label: string }>();

  /** @throws MinibatchError `DuplicateGroup` */
  add<C extends RegisteredConsumer>(consumer: C): C {
    const { stream, label } = consumer;
    const { group } = consumer.resolved;
    const id = `${stream}\0${group}`;
    const other = this.consumers.get(id);
    if (other) {
      const hint =
        other.label === label && other.instance !== consumer.instance
          ? `its class is a provider in two modules (${other.module.name}, ${consumer.module.name}): provide it in one, and export it`
          : 'plan' in other || 'plan' in consumer
            ? 'the group of a pipeline is its name; give one of them another one'
            : 'a group belongs to one consumer; give one of them a name of its own by `group`, and both see every message';
      throw new MinibatchError(
        ErrorCode.DuplicateGroup,
        `${other.label} and ${label} both consume '${stream}' in the group '${group}': ${hint}`,
        { details: { stream, group, consumers: [other.label, label] } },
      );
    }
    this.consumers.set(id, consumer);
    if (consumer.pattern) this.patterns.push(consumer);
    else this.named.add(stream);
    const methods = this.byInstance.get(consumer.instance) ?? new Map<string, RegisteredConsumer[]>();
    this.byInstance.set(consumer.instance, methods);
    methods.set(consumer.method, [...(methods.get(consumer.method) ?? []), consumer]);
    return consumer;
  }

  /** True if it was added before. */
  has({ instance, method, stream, options }: FoundConsumer): boolean {
    const known = this.byInstance.get(instance)?.get(method) ?? [];
    return known.some((each) => each.stream === stream && each.options === options);
  }

  /** True if the application has a consumer for the group of the stream, by name or by a pattern. */
  knows(stream: string, group?: string): boolean {
    const isNamed = group === undefined ? this.named.has(stream) : this.consumers.has(`${stream}\0${group}`);
    return (
      isNamed ||
      this.patterns.some(
        ({ pattern, resolved }) => pattern?.test(stream) && (group === undefined || resolved.group === group),
      )
    );
  }

  /** For a consumer that is started at run time, until the answer is called. @throws MinibatchError `DuplicateGroup` */
  readonly reserve = (stream: string, group: string, label: string): (() => void) => {
    const id = `${stream}\0${group}`;
    const other = this.consumers.get(id)?.label ?? this.reserved.get(id)?.label;
    if (other !== undefined) {
      throw new MinibatchError(
        ErrorCode.DuplicateGroup,
        `${label}: ${other} already consumes '${stream}' in the group '${group}': give one of them a name of its own with ` +
          '`group`, and both see every message; or stop the other one first',
        { details: { stream, group, consumers: [other, label] } },
      );
    }
    const own = { label };
    this.reserved.set(id, own);
    // Another consumer may have the group by then, see `releaseAll`.
    return () => {
      if (this.reserved.get(id) === own) this.reserved.delete(id);
    };
  };

  /** Frees the groups of all consumers that were started at run time: these have ended with their engine. */
  releaseAll(): void {
    this.reserved.clear();
  }

  all(): readonly RegisteredConsumer[] {
    return [...this.consumers.values()];
  }

  /**
   * Those that the filter names, as `Class.method`, `stream/group` or `stream`; all without one.
   *
   * @throws MinibatchError `InvalidOptions` if a name fits none: a worker that does nothing would be noticed late
   */
  selected(filter: readonly string[] | undefined): readonly RegisteredConsumer[] {
    if (!filter) return this.all();
    for (const name of filter) {
      if (this.all().some((consumer) => namesOf(consumer).includes(name))) continue;
      const labels = this.all().map((consumer) => consumer.label);
      throw invalidOption(
        'MinibatchModule',
        'consumers (or MINIBATCH_CONSUMERS)',
        name,
        `Class.method, stream/group or stream of one of: ${labels.join(', ') || 'none, there are no consumers'}`,
      );
    }
    return this.all().filter((consumer) => this.isSelected(consumer, filter));
  }

  isSelected(consumer: RegisteredConsumer, filter: readonly string[] | undefined): boolean {
    return !filter || namesOf(consumer).some((name) => filter.includes(name));
  }
}

function namesOf({ label, stream, resolved }: RegisteredConsumer): readonly string[] {
  return [label, `${stream}/${resolved.group}`, stream];
}
