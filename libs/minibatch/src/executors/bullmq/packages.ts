import { loadPackage } from '../../common/missing-package.js';

/** What of the packages is used. Declared here: with their own types, ours would not compile where they are not installed. */
export interface RedisClient {
  readonly status: string;
  readonly options: { readonly db?: number | string };
  connect(): Promise<void>;
  disconnect(reconnect?: boolean): void;
  hmget(key: string, ...fields: string[]): Promise<(string | null)[]>;
  exists(key: string): Promise<number>;
  set(key: string, value: string, unit: 'PX', ms: number): Promise<unknown>;
  /** Newest first, if `from` is `+` and `to` is `-`. */
  xrevrange(
    key: string,
    from: string,
    to: string,
    count: 'COUNT',
    most: number,
  ): Promise<[id: string, fields: string[]][]>;
  info(section: string): Promise<string>;
  publish(channel: string, message: string): Promise<number>;
  subscribe(...channels: string[]): Promise<unknown>;
  on(event: 'ready' | 'close', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'message', listener: (channel: string, message: string) => void): unknown;
}

export interface Queue {
  toKey(type: string): string;
  waitUntilReady(): Promise<unknown>;
  add(name: string, data: unknown, options: object): Promise<unknown>;
  remove(id: string, options: { readonly removeChildren: boolean }): Promise<number>;
  /** Those of all databases. */
  getWorkers(): Promise<readonly { readonly db?: string }[]>;
  on(event: 'error', listener: (error: Error) => void): unknown;
  close(): Promise<void>;
}

export interface QueueEvents {
  run(): Promise<void>;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: string, listener: (args: { readonly jobId: string }) => void): unknown;
  close(): Promise<void>;
}

export interface Job {
  readonly id?: string;
  readonly data: unknown;
  readonly timestamp: number;
  updateProgress(progress: object): Promise<void>;
  moveToWait(token: string): Promise<unknown>;
}

export interface Worker {
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'lockRenewalFailed', listener: (ids: readonly string[]) => void): unknown;
  waitUntilReady(): Promise<unknown>;
  pause(doNotWaitActive: boolean): Promise<void>;
  close(force: boolean): Promise<void>;
}

export type Processor = (job: Job, token: string) => Promise<unknown>;

export interface Bullmq {
  readonly Queue: new (name: string, options: object) => Queue;
  readonly QueueEvents: new (name: string, options: object) => QueueEvents;
  readonly Worker: new (name: string, processor: Processor, options: object) => Worker;
  readonly WaitingError: new () => Error;
}

type RedisClass = new (options: object) => RedisClient;
type RedisByUrl = new (url: string, options: object) => RedisClient;

export interface Packages {
  readonly bullmq: Bullmq;
  client(connection: Readonly<Record<string, unknown>>, options: object): RedisClient;
}

/** @throws MinibatchError `MissingPackage` */
export async function loadPackages(): Promise<Packages> {
  const [bullmqName, ioredisName]: string[] = ['bullmq', 'ioredis'];
  const remedy = 'npm install bullmq ioredis';
  const load = <M>(name: string) => loadPackage('bullmq', name, () => import(name) as Promise<M>, remedy);
  const bullmq = await load<Bullmq>(bullmqName ?? '');
  const { Redis } = await load<{ Redis: RedisClass & RedisByUrl }>(ioredisName ?? '');
  return {
    bullmq,
    client: ({ url, ...given }, options) =>
      typeof url === 'string' ? new Redis(url, { ...given, ...options }) : new Redis({ ...given, ...options }),
  };
}
