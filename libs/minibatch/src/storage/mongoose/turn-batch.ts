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

  /**
   * @param send resolves with the results of the requests, in their order. There is at least one request
   * @param most requests that go into one command
   */
  constructor(
    private readonly send: (requests: readonly Request[]) => Promise<readonly Result[]>,
    private readonly most = Infinity,
  ) {}

  add(request: Request): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.calls.push({ request, resolve, reject });
      if (this.calls.length > 1) return;
      void endOfTurn().then(() => {
        const { calls, most } = this;
        this.calls = [];
        for (let from = 0; from < calls.length; from += most) void this.sendAll(calls.slice(from, from + most));
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

/**
 * Calls that a start with many consumers makes in one turn, joined. A call that is alone in its turn is sent as ever, so a single consumer
 * pays nothing for it.
 */
export function joined<Request, Result>(
  alone: (request: Request) => Promise<Result>,
  together: (requests: readonly Request[]) => Promise<readonly Result[]>,
): TurnBatch<Request, Result> {
  return new TurnBatch(async (requests) => {
    const [only] = requests;
    return requests.length === 1 && only !== undefined ? [await alone(only)] : together(requests);
  }, MOST_TOGETHER);
}

/** Consumers in one command: its replies stay small, and a server is not held up by one for long. */
const MOST_TOGETHER = 1_000;

/** Resolves when everything that a reply has triggered has run, however many promises that takes. */
export function endOfTurn(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
