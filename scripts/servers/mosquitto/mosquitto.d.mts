import type { Encrypted, EncryptionOptions } from '../certificates.mjs';

export interface MosquittoOptions extends EncryptionOptions {
  /**
   * Sessions, queued and retained messages survive `kill9()`. It writes all of them to its file at each change: slow with thousands
   * in it.
   */
  durable?: boolean;
  /** A listener for WebSockets too; with `tls`, one more with it. */
  webSockets?: boolean;
  /** Names and passwords; without, everybody may connect. */
  users?: Readonly<Record<string, string>>;
  /** Topic filters that nobody may subscribe, and that nobody may publish to. */
  forbidden?: readonly string[];
  /** Further lines of mosquitto.conf for the listener. */
  config?: readonly string[];
  /** @default one that is free */
  port?: number;
}

export interface MosquittoServer extends Encrypted {
  readonly url: string;
  /** With `webSockets`. */
  readonly wsUrl: string | undefined;
  /** With `webSockets` and `tls`. */
  readonly wssUrl: string | undefined;
  readonly port: number;
  /** For people. */
  readonly label: string;
  readonly pid: number | undefined;
  /** Kills the broker as a power cut would; `restart()` brings it back. */
  kill9(): Promise<void>;
  /** Starts it again on the same port with what is durable; ends it first if it runs. */
  restart(): Promise<void>;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
}

/**
 * An MQTT broker for tests and benchmarks: Debian's mosquitto, on a free port, under a temporary folder. It dies with this process.
 *
 * With `durable`, what survives `kill9()`: it writes its state at the end of each turn of its loop in which something changed, after it has sent the
 * acknowledgements of that turn. So a message is safe when it was acknowledged and something that was sent later is too.
 */
export function startMosquitto(options?: MosquittoOptions): Promise<MosquittoServer>;
