import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** Stands between a client and its server. */
export interface FrozenProxy {
  readonly port: number;
  /** From now on it behaves as a server that is stopped by SIGSTOP: it takes connections and bytes, and neither answers nor closes. */
  freeze(): void;
  /** The connections that are open now say nothing any more, on either side, as when a router has forgotten them; new ones work. */
  forget(): void;
  /** Connections that were opened so far. */
  readonly opened: number;
  /** What has arrived meanwhile goes on its way. */
  thaw(): void;
  close(): void;
}

export async function startFrozenProxy(target: number): Promise<FrozenProxy> {
  const sockets = new Set<Socket>();
  const forgotten = new WeakSet<Socket>();
  let isFrozen = false;
  let opened = 0;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    opened += 1;
    const upstream = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        if (!isFrozen && !forgotten.has(socket)) for (const other of [client, upstream]) other.destroy();
      });
    }
    client.pipe(upstream);
    upstream.pipe(client);
    if (isFrozen) for (const socket of [client, upstream]) socket.pause();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    freeze: () => {
      isFrozen = true;
      for (const socket of sockets) socket.pause();
    },
    forget: () => {
      for (const socket of sockets) forgotten.add(socket.pause());
    },
    get opened() {
      return opened;
    },
    thaw: () => {
      isFrozen = false;
      for (const socket of sockets) if (!forgotten.has(socket)) socket.resume();
    },
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
