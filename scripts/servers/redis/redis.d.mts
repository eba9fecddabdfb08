export interface RedisOptions {
  /** @default a free one */
  port?: number;
  /** Keeps its data in this folder, which is not removed. @default a temporary one */
  dir?: string;
  /** Clients must give it. @default none */
  password?: string;
  /** When a command is on disk: before it is acknowledged, or at most a second later. @default 'always' */
  fsync?: 'always' | 'everysec';
}

export interface RedisServer {
  /** With the password, if there is one; database 0. */
  readonly url: string;
  readonly port: number;
  /** For people: program and path. */
  readonly label: string;
  readonly pid: number;
  /** Kills the server as a power cut would; `restart()` brings it back. */
  kill9(): Promise<void>;
  /** Starts it again on the same port with the same data; ends it first if it runs. */
  restart(): Promise<void>;
  /** Ends it and removes its temporary data. */
  stop(): Promise<void>;
}

/** A redis-server that writes every command to disk (Debian: redis-server). Dies with this process. */
export function startRedis(options?: RedisOptions): Promise<RedisServer>;
