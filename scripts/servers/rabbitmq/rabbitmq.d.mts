export interface RabbitmqOptions {
  /** @default a free one */
  port?: number;
  /** Keeps its data in this folder, which is not removed. @default a temporary one */
  dir?: string;
}

export interface RabbitmqServer {
  /** With user and password (guest); names no virtual host, so the default one. */
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

/** RabbitMQ without plugins (Debian: rabbitmq-server), apart from any other on the machine. Dies with this process. */
export function startRabbitmq(options?: RabbitmqOptions): Promise<RabbitmqServer>;
