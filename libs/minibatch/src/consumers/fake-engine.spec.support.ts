import type {
  ConsumerDefinition,
  ConsumerStatus,
  DrainResult,
  Engine,
  WakeUpStatus,
} from '../engine/engine.interface.js';
import type { GroupKey } from '../storage/stream-store.interface.js';

/** Remembers what it is told; runs nothing. */
export class FakeEngine implements Engine {
  readonly definitions: ConsumerDefinition[] = [];
  readonly calls: string[] = [];
  statuses: ConsumerStatus[] = [];
  result: DrainResult = { drained: 0, abandoned: 0 };

  get labels(): string[] {
    return this.definitions.map(({ label }) => label).toSorted();
  }

  add(definition: ConsumerDefinition): void {
    this.definitions.push(definition);
  }

  async run(definition: ConsumerDefinition): Promise<void> {
    this.definitions.push(definition);
  }

  async remove(key: GroupKey, timeout: number): Promise<DrainResult> {
    this.calls.push(`remove ${key.group} ${timeout}`);
    return this.result;
  }

  retain(stream: string): void {
    this.calls.push(`retain ${stream}`);
  }

  declare(stream: string, partitions: number): void {
    this.calls.push(`declare ${stream} ${partitions}`);
  }

  async start(): Promise<void> {
    this.calls.push('start');
  }

  async stop(timeout: number, _hurry?: AbortSignal): Promise<DrainResult> {
    this.calls.push(`stop ${timeout}`);
    return this.result;
  }

  wake(stream: string): void {
    this.calls.push(`wake ${stream}`);
  }

  async refresh(stream: string): Promise<void> {
    this.calls.push(`refresh ${stream}`);
  }

  status(): readonly ConsumerStatus[] {
    return this.statuses;
  }

  wakeUpStatus: WakeUpStatus = { by: 'polling' };

  wakeUps(): WakeUpStatus {
    return this.wakeUpStatus;
  }

  async settled(): Promise<void> {}
}
