import type { MqttClient } from 'mqtt';

/**
 * Sends PUBACKs: the same four bytes in MQTT 3.1.1 and, for success, in MQTT 5.
 *
 * They are written here and not by mqtt.js. It sends one when the callback of `handleMessage` (or of `customHandleAcks`, MQTT 5
 * only) is called, and handles no further packet until then: one message for each write to the store, and no answers to pings
 * meanwhile. So its callback is called at once, with an error, which makes it send nothing and continue.
 *
 * The client must be that of the connection which the messages came through: on the next one the broker sends what is open
 * again, maybe under other ids.
 */
export function acknowledge(client: MqttClient, ids: readonly number[]): void {
  if (ids.length === 0 || !client.connected || client.stream.destroyed) return;
  const packets = Buffer.allocUnsafe(ids.length * 4);
  ids.forEach((id, index) => {
    packets.writeUInt16BE(0x40_02, index * 4);
    packets.writeUInt16BE(id, index * 4 + 2);
  });
  client.stream.write(packets);
}

/** For the callback of `handleMessage`: the message is acknowledged later, by {@link acknowledge}. */
export const LATER = new Error('acknowledged after the append');
