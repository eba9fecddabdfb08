export interface OwnServerOptions {
  /** @default a free one */
  port?: number;
  /** Keeps its data in this folder, which is not removed. @default a temporary one */
  dir?: string;
}

/** A server of this process, which dies with it. */
export interface OwnServer {
  /** With user and password, if there are any. */
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
