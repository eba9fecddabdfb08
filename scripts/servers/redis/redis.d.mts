import type { Encrypted, EncryptionOptions } from '../certificates.mjs';
import type { OwnServer, OwnServerOptions } from '../own-server.mjs';

export interface RedisOptions extends OwnServerOptions, EncryptionOptions {
  /** Clients must give it. @default none */
  password?: string;
  /** When a command is on disk: before it is acknowledged, or at most a second later. @default 'always' */
  fsync?: 'always' | 'everysec';
}

/** A redis-server that writes every command to disk (Debian: redis-server). Its `url` names database 0. */
export function startRedis(options?: RedisOptions): Promise<OwnServer & Encrypted>;
