import { delay } from '../common/clock.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { RelaxedTimeWindow } from '../windows/relaxed-time.window.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import type { Process } from './process.spec.support.js';
import { Own, type Planted, type Slot } from './protocol-doubles.spec.support.js';
import type { GroupState, ProtocolModel } from './protocol-model.spec.support.js';
import type { GroupPlan, Plan } from './protocol-plan.spec.support.js';
import { chain, values } from './protocol-stage.spec.support.js';

/** The handlers and sinks of a plan, which fail and hang as it says, and tell the model what they see. */
export class Consumers {
  private readonly taken = new Map<string, number>();
  private handlers: Plan['handlers'];
  private puts: Plan['puts'];

  constructor(
    private readonly plan: Plan,
    private readonly planted: Planted,
    private readonly model: ProtocolModel,
    private readonly slots: readonly Slot[],
  ) {
    this.handlers = [...Array.from({ length: plan.outage }, () => 'fail' as const), ...plan.handlers];
    this.puts = [...plan.puts];
  }

  /** From now on none fails or hangs, but for bad messages. */
  heal(): void {
    this.handlers = [];
    this.puts = [];
  }

  consume(on: Slot, process: Process, name: string, each: GroupPlan): void {
    const { kind, size, interval, workers, sinks, maxSize, empty } = each;
    if (kind === 'stage') return this.runStage(on, process, name, each);
    process.consumer({
      group: name,
      workers,
      maxSize,
      lookAhead: kind === 'own' ? 15 : 10_000,
      retry: { base: 500, max: 4_000, jitter: 0, attempts: 5 },
      ...(kind === 'count' || kind === 'wait' ? { size, emitter: new CountWindow() } : {}),
      ...(kind === 'count' || kind === 'own' ? {} : { interval }),
      ...(kind === 'relaxed' ? { emitter: new RelaxedTimeWindow() } : {}),
      ...(kind === 'fixed' ? { emitter: new FixedTimeWindow() } : {}),
      ...(kind === 'own' ? { emitter: new Own() as WindowEmitter } : {}),
      empty,
      handler: this.planted.hastyHandler
        ? (window) => {
            void this.handle(on, process, name, window).catch(() => undefined);
          }
        : (window) => this.handle(on, process, name, window),
      sinks: Array.from({ length: sinks }, (_, index) => ({
        name: `sink${index}`,
        sink: { put: (_result, window) => this.put(on, process, window, sinks) },
      })),
    });
  }

  private runStage(on: Slot, process: Process, name: string, { size, interval }: GroupPlan): void {
    process.consumer({
      group: name,
      size,
      interval,
      retry: { base: 500, max: 4_000, jitter: 0, attempts: 5 },
      stage: {
        values,
        cacheBytes: this.plan.cache,
        run: async (window, changes) => {
          for (const message of window.messages) {
            if (!this.isBad(message.data as number)) continue;
            this.model.groups.get(name)?.rejected.add(message.id);
            window.reject(message, new Error('planted'));
          }
          const run = chain(name, window, changes);
          await this.handle(on, process, name, window);
          await run;
        },
      },
    });
  }

  private async handle(on: Slot, process: Process, name: string, window: Window): Promise<unknown> {
    if (on.process !== process) return new Promise(() => undefined);
    const state = this.model.groups.get(name) as GroupState;
    this.model.sameId(
      state,
      window.id,
      window.messages.map(({ id }) => id),
    );
    const seen = window.messages.map(({ id }) => id);
    if (state.recorded.has(`${window.id}#${seen.length}`) && seen.length > 0) {
      this.model.violate(`${window.id} is handled after its commit point`);
    }
    if (window.signal.aborted) this.model.violate('a window is handled whose signal has aborted');
    const running = on.running.get(name) ?? new Set();
    on.running.set(name, running);
    running.add(window);
    const counted = [...running].filter(({ signal }) => !signal.aborted).length;
    const workers = state.plan.kind === 'stage' ? 1 : state.plan.workers;
    if (counted > workers) this.model.violate(`${counted} windows in flight with ${workers} workers`);
    try {
      const outcome = this.handlers.shift() ?? 'ok';
      const isStage = state.plan.kind === 'stage';
      if (outcome === 'fail' || (!isStage && window.data.some((value) => this.isBad(value as number)))) {
        for (const id of seen) state.failed.add(id);
        throw new Error('planted');
      }
      if (outcome === 'hang') await new Promise<void>((resolve) => on.hanging.push(resolve));
      if (outcome === 'slow') await delay(process.clock, 2_500);
      if (on.process !== process) return await new Promise(() => undefined);
      if (state.plan.sinks > 0 && !isStage) return 'result';
      this.finish(on, window);
      return undefined;
    } finally {
      running.delete(window);
    }
  }

  isBad(value: number): boolean {
    return this.plan.poison > 0 && value % this.plan.poison === 0;
  }

  private async put(on: Slot, process: Process, window: Window, sinks: number): Promise<void> {
    if (on.process !== process) return new Promise(() => undefined);
    if (window.signal.aborted) this.model.violate('a put begins although the signal has aborted');
    if (this.puts.shift() === false) throw new Error('planted');
    const key = `${this.slots.indexOf(on)} ${window.group} ${window.id} ${window.attempt}`;
    const taken = (this.taken.get(key) ?? 0) + 1;
    this.taken.set(key, taken);
    if (taken >= sinks) this.finish(on, window);
  }

  private finish(on: Slot, window: Window): void {
    on.finished.add(window.id);
    if (!window.split) return;
    for (const { id } of window.messages) this.model.groups.get(window.group)?.inParts.add(id);
  }
}
