import type { IClientOptions, IConnackPacket, MqttClient } from 'mqtt';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import { propertyOf } from '../../errors/error-text.js';
import { invalidOption } from '../../common/checks.js';
import type { MinibatchError } from '../../errors/minibatch.error.js';
import { loadPackage } from '../../common/missing-package.js';
import { connectionClosed, connectionLost, connectionAborted, notConnected } from './connection-errors.js';
import type { ResolvedConnection } from './mqtt-connection.options.js';

/** A broker that does not answer a DISCONNECT is left; milliseconds. */
const CLOSE_WAIT = 300;

/**
 * One connection to the broker, from CONNECT to its end. It is never mended: who needs it longer opens the next one, so that
 * each break is seen, counted, and waited after by the one backoff there is.
 */
export class MqttConnection {
  private over: MinibatchError | undefined;
  private readonly listeners = new Set<(error: MinibatchError) => void>();

  private constructor(
    readonly client: MqttClient,
    private readonly settings: ResolvedConnection,
  ) {}

  /**
   * Connects. `prepare` gets the client before anything can have come through it.
   *
   * @throws MinibatchError with the settings' code if it does not come about, or if the signal aborts before
   */
  static async open<P>(
    settings: ResolvedConnection,
    signal: AbortSignal,
    prepare: (client: MqttClient) => P,
  ): Promise<{ readonly connection: MqttConnection; readonly connack: IConnackPacket; readonly prepared: P }> {
    const connect = await importConnect(settings);
    if (signal.aborted) throw connectionAborted(settings, 'connecting');
    const connection = new MqttConnection(createClient(settings, connect), settings);
    const prepared = prepare(connection.client);
    const connected = new Promise<IConnackPacket>((resolve) => connection.client.once('connect', resolve));
    connection.watch(connected);
    try {
      return { connection, connack: await connection.during(connected, signal, 'connecting'), prepared };
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** Why it is over; undefined while it is not. */
  get failure(): MinibatchError | undefined {
    return this.over;
  }

  /** Calls once, when the connection ends without `close`; at once if it has. The answer takes the listener away. */
  onEnd(listener: (error: MinibatchError) => void): () => void {
    if (this.over) listener(this.over);
    else this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** What `work` gives, unless the connection ends or the signal aborts before. */
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

  /** Says goodbye, so that the broker publishes no will; does not wait for long. Who still waits for something hears that it is over. */
  async close(): Promise<void> {
    this.finish(connectionClosed(this.settings));
    const { client } = this;
    await new Promise<void>((resolve) => {
      // What was published and is not answered yet would be waited for.
      const polite = client.connected && Object.keys(client.outgoing).length === 0;
      const cancel = SYSTEM_CLOCK.schedule(CLOSE_WAIT, () => client.stream.destroy());
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

/** Loaded when it is needed: a static import could only fail with Node's own error. */
async function importConnect({ where }: ResolvedConnection): Promise<Connect> {
  const mqtt = await loadPackage(where, 'mqtt', () => import('mqtt'));
  return mqtt.connect;
}

function createClient(settings: ResolvedConnection, connect: Connect): MqttClient {
  const { where, url, createClient: create } = settings;
  // mqtt.js changes the options that it is given.
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
