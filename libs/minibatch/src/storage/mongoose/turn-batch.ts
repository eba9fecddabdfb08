import { isNetworkError, isServerLost } from './store-errors.js';

interface Call<Request, Result> {
  readonly request: Request;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Sends the calls of one turn of the event loop as one command, without delay: it is sent as soon as the code that is running has finished.
 *
 * If the server rejects the joint command, each call is sent separately, so that no call fails because of another one.
 */
export class TurnBatch<Request, Result> {
  private calls: Call<Request, Result>[] = [];

  /** `send`: resolves with the results of the requests, in their order. There is at least one request. */
  constructor(private readonly send: (requests: readonly Request[]) => Promise<readonly Result[]>) {}

  add(request: Request): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.calls.push({ request, resolve, reject });
      if (this.calls.length > 1) return;
      void endOfTurn().then(() => {
        const { calls } = this;
        this.calls = [];
        return this.sendAll(calls);
      });
    });
  }

  private async sendAll(calls: readonly Call<Request, Result>[]): Promise<void> {
    try {
      const results = await this.send(calls.map(({ request }) => request));
      for (const [index, { resolve }] of calls.entries()) resolve(results[index] as Result);
    } catch (error) {
      if (calls.length > 1 && !isNetworkError(error) && !isServerLost(error)) {
        for (const call of calls) void this.sendAll([call]);
      } else for (const { reject } of calls) reject(error);
    }
  }
}

/** Resolves when everything that a reply has triggered has run, however many promises that takes. */
export function endOfTurn(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
