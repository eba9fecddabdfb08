export interface KafkaOptions {
  /** Keeps its data in this folder, which is not removed. @default a temporary one */
  dir?: string;
  /** Broker settings in addition to those of the script, by Kafka's names. */
  settings?: Readonly<Record<string, string | number>>;
}

export interface KafkaServer {
  /** `host:port`, open to all. */
  readonly broker: string;
  /** The same broker behind SASL PLAIN. */
  readonly secure: { readonly broker: string; readonly username: string; readonly password: string };
  /** For people: name and version. */
  readonly label: string;
  readonly pid: number;
  /** Kills it as a power cut of the process would; `restart()` brings it back. */
  kill9(): Promise<void>;
  /** Starts it again on the same port with the same data; ends it first if it runs. */
  restart(): Promise<void>;
  /** Ends it and removes its temporary data. */
  stop(): Promise<void>;
}

/** Kafka for tests and benchmarks: one node, groups form at once. What it starts dies with this process. */
export function startKafka(options?: KafkaOptions): Promise<KafkaServer>;
