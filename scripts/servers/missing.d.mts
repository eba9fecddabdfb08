/** What is missing, for people. */
export interface MissingServer {
  /** `Redis`, `Kafka`, … */
  readonly server: string;
  /** One line: how to get it. */
  readonly how: string;
}

/** Tests need something that this machine does not have and that cannot be installed without asking. */
export class MissingServerError extends Error implements MissingServer {
  readonly code: 'MISSING_SERVER';
  readonly server: string;
  readonly how: string;
  constructor(server: string, how: string, options?: ErrorOptions);
}

/** What is missing, if that is why something failed: a `MissingServerError`, or an error that one of them caused. */
export function missingServer(error: unknown): MissingServer | undefined;

/** Runs `attempt`, unless it has already failed in this run: then fails again with the same message. */
export function tryOnce<T>(name: string, attempt: () => Promise<T>): Promise<T>;
