/** Where log lines go; Nest's `Logger` is one. */
export interface Log {
  log(message: string): void;
  warn(message: string): void;
  error(message: string, stack?: string): void;
}
