import type { IClientOptions, MqttClient } from 'mqtt';
import { type Clock, SYSTEM_CLOCK } from '../../common/clock.js';
import { propertyOf } from '../../errors/error-text.js';
import { invalidOption } from '../../common/checks.js';
import type { MinibatchError } from '../../errors/minibatch.error.js';
import { loadPackage } from '../../common/missing-package.js';
import { connectionClosed, connectionLost, connectionAborted, notConnected } from './connection-errors.js';
import type { ResolvedConnection } from './mqtt-connection.options.js';

/** A broker that does not answer a DISCONNECT is not waited for any longer; milliseconds. */
const CLOSE_WAIT = 300;

/**
 * One connection to the broker, from CONNECT to its end. Never reconnects: open a new one, so that each break is seen and counted, and
 * one backoff follows it.
 */
export class MqttConnection {
  private over: MinibatchError | undefined;
  private readonly listeners = new Set<(error: MinibatchError) => void>();

  private constructor(
    readonly client: MqttClient,
    private readonly settings: ResolvedConnection,
    private readonly clock: Clock,
  ) {}

  /**
   * Connects. `prepare` gets the client before anything can have arrived through it.
   *
   * @throws MinibatchError with the settings' code if that fails, or if the signal aborts first
   */
  static async open<P>(
    settings: ResolvedConnection,
    signal: AbortSignal,
    prepare: (client: MqttClient) => P,
    clock: Clock = SYSTEM_CLOCK,
  ): Promise<{ readonly connection: MqttConnection; readonly sessionPresent: boolean; readonly prepared: P }> {
    const connect = await importConnect(settings);
    if (signal.aborted) throw connectionAborted(settings, 'connecting');
    const connection = new MqttConnection(createClient(settings, connect), settings, clock);
    const prepared = prepare(connection.client);
    const connected = new Promise<boolean>((resolve) => {
      connection.client.once('connect', (connack) => resolve(propertyOf(connack, 'sessionPresent') === true));
    });
    connection.watch(connected);
    try {
      return { connection, sessionPresent: await connection.during(connected, signal, 'connecting'), prepared };
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** Why it has ended; undefined while it has not. */
  get failure(): MinibatchError | undefined {
    return this.over;
  }

  /** Calls once, when the connection ends without `close`; at once if it has. The returned function removes the listener. */
  onEnd(listener: (error: MinibatchError) => void): () => void {
    if (this.over) listener(this.over);
    else this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** What `work` resolves with, unless the connection ends or the signal aborts first. */
  async during<R>(work: Promise<R>, signal: AbortSignal, what: string): Promise<R> {
    let forget = (): void => undefined;
    const broken = new Promise<never>((_, reject) => {
      const aborted = () => reject(connectionAborted(this.settings, what));
      const forgetEnd = this.onEnd(reject);
      signal.addEventListener('abort', aborted, { once: true });
      if (signal.aborted) aborted();
      forget = () => {
        forgetEnd();
        signal.removeEventListener('abort', aborted);
      };
    });
    try {
      return await Promise.race([work, broken]);
    } finally {
      forget();
    }
  }

  /** Sends DISCONNECT, so that the broker publishes no will; does not wait long. Calls in flight fail. */
  async close(): Promise<void> {
    this.finish(connectionClosed(this.settings));
    const { client } = this;
    await new Promise<void>((resolve) => {
      // mqtt.js would wait for publishes that are not acknowledged yet.
      const polite = client.connected && Object.keys(client.outgoing).length === 0;
      const cancel = this.clock.schedule(CLOSE_WAIT, () => client.stream.destroy());
      client.end(!polite, () => {
        cancel();
        resolve();
      });
    });
  }

  private finish(error: MinibatchError): void {
    if (this.over) return;
    this.over = error;
    for (const listener of this.listeners) listener(error);
    this.listeners.clear();
  }

  private watch(connected: Promise<unknown>): void {
    const { client, settings } = this;
    let isConnected = false;
    let reasonCode: number | undefined;
    void connected.then(() => (isConnected = true));
    const end = (cause: unknown) => {
      if (this.over) return;
      const early = () => notConnected(settings, cause ?? new Error('it was closed before the broker accepted it'));
      this.finish(isConnected ? connectionLost(settings, cause, reasonCode) : early());
      client.end(true);
    };
    client.on('disconnect', (packet) => {
      const said = propertyOf(packet, 'reasonCode');
      reasonCode = typeof said === 'number' ? said : undefined;
    });
    client.on('error', end);
    client.on('close', () => end(undefined));
  }
}

type Connect = (url: string, options: IClientOptions) => MqttClient;

/** Loaded when needed: a static import could only fail with Node's own error. */
async function importConnect({ where }: ResolvedConnection): Promise<Connect> {
  const mqtt = await loadPackage(where, 'mqtt', () => import('mqtt'));
  return mqtt.connect;
}

function createClient(settings: ResolvedConnection, connect: Connect): MqttClient {
  const { where, url, createClient: create } = settings;
  // mqtt.js changes the options it is given.
  const options = {
    ...settings.options,
    ...(settings.options.properties && { properties: { ...settings.options.properties } }),
  };
  if (url !== undefined) return connect(url, options);
  const client = create?.(options);
  if (typeof client?.end !== 'function' || client.connected || client.options.clean !== options.clean) {
    if (typeof client?.end === 'function') client.end(true);
    const allowed =
      'a function that passes its options on to mqtt.connect() and returns the client before it is connected';
    throw invalidOption(where, 'createClient', create, allowed);
  }
  return client;
}
