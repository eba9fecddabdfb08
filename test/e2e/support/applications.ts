import type { LoggerService, ModuleMetadata } from '@nestjs/common';
import { MongooseModule, type MongooseModuleOptions } from '@nestjs/mongoose';
import { Test, type TestingModule } from '@nestjs/testing';
import { openDatabase, type TestDatabase } from '../../support/mongo-server.js';

/** Longest wait for a condition: only a hang takes longer, however busy the machine is. */
export const SOON = { timeout: 50_000, interval: 10 } as const;

/** A source stops within a second; one that waits for its system takes half a minute or more. Milliseconds. */
export const STOP_LIMIT = 25_000;

/** What the module says. */
export class Log implements LoggerService {
  readonly lines: string[] = [];
  log(message: unknown, context?: string): void {
    if (context === 'Minibatch') this.lines.push(String(message));
  }
  warn(message: unknown, context?: string): void {
    if (context === 'Minibatch') this.lines.push(`warn: ${String(message)}`);
  }
  error(message: unknown): void {
    this.lines.push(`error: ${String(message)}`);
  }
}

const closing: (() => Promise<void>)[] = [];

/** For `afterEach`: closes what the test has opened, the last first. */
export async function closeAll(): Promise<void> {
  for (const close of closing.splice(0).toReversed()) await close();
}

/** To be done by `closeAll`. */
export function later(close: () => Promise<void>): void {
  closing.push(close);
}

/** An application whose providers are made, but that is not started; `closeAll` closes it, however far it came. */
export async function create(metadata: ModuleMetadata, log = new Log()): Promise<TestingModule> {
  const app = await Test.createTestingModule(metadata).setLogger(log).compile();
  closing.push(() => app.close());
  return app;
}

export async function start(metadata: ModuleMetadata, log?: Log): Promise<TestingModule> {
  return (await create(metadata, log)).init();
}

/** What the start is refused with. */
export async function bootError(metadata: ModuleMetadata): Promise<unknown> {
  try {
    await start(metadata);
  } catch (error) {
    return error;
  }
  throw new Error('it started');
}

/** An empty database of the run's server, or of another one; `closeAll` drops it. */
export function useDatabase(uri?: string): TestDatabase {
  const database = openDatabase(uri);
  closing.push(() => database.dispose());
  return database;
}

/** The application's connection to it. */
export function mongoose({ uri, name }: TestDatabase, options: MongooseModuleOptions = {}) {
  return MongooseModule.forRoot(uri, { dbName: name, ...options });
}

/** For programs that take nothing but a URI. */
export function uriOf({ uri, name }: TestDatabase): string {
  return uri.replace(/^([^/]+:\/\/[^/?]+)(\/[^?]*)?/, `$1/${name}`);
}
