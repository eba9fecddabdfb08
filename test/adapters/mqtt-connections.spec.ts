import { connect, type IClientOptions } from 'mqtt';
import { ErrorCode } from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { startMosquitto } from '../../scripts/servers/mosquitto/mosquitto.mjs';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import { application, connectTo, failing, LONG, sourcesOf, unique, useBroker } from './support/mqtt.js';

afterEach(closeAll);

const AUTHORIZED = { username: 'reader', password: 'secret:with/colon' };

const broker = useBroker({ tls: true });

describe.each([5, 4] as const)(
  'MqttSource: connections, protocol version %i',
  { timeout: 90_000 },
  (protocolVersion) => {
    const { sourceOf, session } = sourcesOf(broker, protocolVersion);

    it('connects with TLS by its URL, to a broker whose certificate authority it is given', async () => {
      const topics = unique('secret');
      const app = await application();
      const tls = { url: broker().tlsUrl ?? '', topics };
      const { status } = await failing(app.attach(sourceOf(tls)));
      expect(status.lastError).toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringMatching(/cannot connect to mqtts:\/\/127\.0\.0\.1:\d+: unable to verify/),
      });
      app.attach(sourceOf({ ...tls, clientOptions: { ca: broker().ca ?? '' } }));
      const publisher = await connectTo(tls.url, { ca: broker().ca ?? '' });
      await vi.waitFor(async () => {
        await publisher.publishAsync(topics, '"hush"', { qos: 1 });
        expect(app.data()).toContain('hush');
      }, SOON);
    });

    it('takes a client that is made elsewhere, and refuses one that would lose messages', async () => {
      const topics = unique('own');
      const app = await application();
      const { url: _, ...options } = { url: '', ...(await session({ topics })) };
      app.attach(
        sourceOf({
          ...options,
          url: undefined,
          createClient: (given: IClientOptions) => connect(broker().url, given),
        } as never),
      );
      const publisher = await connectTo(broker().url);
      await publisher.publishAsync(topics, '1', { qos: 1 });
      await app.arrived(1);
      const careless = {
        ...options,
        url: undefined,
        createClient: () => connect(broker().url, { reconnectPeriod: 0 }),
      };
      const { status } = await failing(app.attach(sourceOf(careless as never)));
      expect(status.lastError).toMatchObject({ code: ErrorCode.InvalidOptions });
    });

    it('waits for a broker that is down when it starts, and says so', async () => {
      const late = await startMosquitto();
      later(() => late.stop());
      await late.kill9();
      const app = await application();
      const topics = unique('late');
      const attached = app.attach(sourceOf({ url: late.url, topics }));
      const { status } = await failing(attached);
      expect(status.lastError?.message).toMatch(/MqttSource: cannot connect to mqtt:.*ECONNREFUSED/);
      await late.restart();
      const publisher = await connectTo(late.url);
      await vi.waitFor(async () => {
        await publisher.publishAsync(topics, '"here"', { qos: 1 });
        expect(app.data()).toContain('here');
      }, LONG);
      expect(attached.status.state).toBe('running');
    });

    it('says that the credentials are wrong', async () => {
      const closed = await startMosquitto({ users: { [AUTHORIZED.username]: AUTHORIZED.password } });
      later(() => closed.stop());
      const app = await application();
      const wrong = { url: closed.url.replace('//', '//reader:wrong@'), topics: 'x' };
      const { status } = await failing(app.attach(sourceOf(wrong)));
      expect(status.lastError).toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringMatching(/rejected the connection: .*ot authorized.*Check user and password/),
      });
      expect(status.lastError?.message).not.toMatch(/wrong@/);
      app.attach(sourceOf({ url: closed.url, topics: 'x', clientOptions: AUTHORIZED }));
      const publisher = await connectTo(closed.url, AUTHORIZED);
      await vi.waitFor(async () => {
        await publisher.publishAsync('x', '"in"', { qos: 1 });
        expect(app.data()).toContain('in');
      }, SOON);
    });

    it('names the topics that the broker refuses, and a QoS it does not grant', async () => {
      const strict = await startMosquitto({ forbidden: ['forbidden/#'] });
      later(() => strict.stop());
      const app = await application();
      const { status } = await failing(app.attach(sourceOf({ url: strict.url, topics: ['open', 'forbidden/x'] })));
      const code = protocolVersion === 5 ? '135: not authorized' : '128';
      expect(status.lastError).toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringContaining(`the broker rejects the subscription of 'forbidden/x' (${code})`),
      });

      const weak = await startMosquitto({ config: ['max_qos 0'] });
      later(() => weak.stop());
      const low = await failing(app.attach(sourceOf({ url: weak.url, topics: 'open' })));
      expect(low.status.lastError?.message).toMatch(/grants 'open' with QoS 0 only/);
      const fine = app.attach(sourceOf({ url: weak.url, topics: 'open', qos: 0 }));
      const publisher = await connectTo(weak.url);
      await vi.waitFor(async () => {
        await publisher.publishAsync('open', '"zero"');
        expect(app.data()).toContain('zero');
      }, SOON);
      expect(fine.status.failures).toBe(0);
    });

    it('says that another process took its client id', async () => {
      const app = await application();
      const options = await session({ topics: unique('mine') });
      const attached = app.attach(sourceOf(options));
      const other = connect(broker().url, {
        clientId: options.clientId,
        protocolVersion,
        clean: false,
        reconnectPeriod: 50,
      });
      later(() => other.endAsync(true));
      const { status } = await failing(attached);
      // Others than mosquitto 2.0 say it in MQTT 5: see connection-errors.spec.ts.
      expect(status.lastError?.message).toMatch(
        /was lost\. If this keeps happening, check whether another process uses the same clientId/,
      );
    });
  },
);
