import type { Encrypted, EncryptionOptions } from '../certificates.mjs';
import type { OwnServer, OwnServerOptions } from '../own-server.mjs';

/** RabbitMQ without plugins (Debian: rabbitmq-server), apart from any other on the machine. Its `url` names the default virtual host. */
export function startRabbitmq(options?: OwnServerOptions & EncryptionOptions): Promise<OwnServer & Encrypted>;
