import { percentile } from './stats.mjs';

/**
 * Sends at a rate, whatever becomes of what was sent: a message's latency counts from when it was to be sent, so a subject that
 * holds the sender up does not thereby make its own figures better (no coordinated omission).
 */
export class OpenLoop {
  constructor({ rate, seconds, warmUp }) {
    this.rate = rate;
    this.total = Math.round(rate * (seconds + warmUp));
    this.ignored = Math.round(rate * warmUp);
    this.latencies = new Float64Array(this.total).fill(Number.NaN);
  }

  /** @param {(n: number) => Promise<unknown>} send not waited for; its failures are */
  async run(send) {
    const failures = [];
    let pending = 0;
    this.began = performance.now();
    for (let n = 0; n < this.total;) {
      const due = Math.min(this.total, Math.floor(((performance.now() - this.began) / 1000) * this.rate) + 1);
      for (; n < due; n += 1) {
        pending += 1;
        void send(n)
          .catch((error) => failures.push(error))
          .finally(() => (pending -= 1));
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    while (pending > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    if (failures.length > 0) throw new AggregateError(failures, `${failures.length} appends failed: ${failures[0]}`);
  }

  intended(n) {
    return this.began + (n / this.rate) * 1000;
  }

  handled(n) {
    if (Number.isNaN(this.latencies[n])) this.latencies[n] = performance.now() - this.intended(n);
  }

  /** In milliseconds. */
  get result() {
    const counted = this.latencies
      .slice(this.ignored)
      .filter((latency) => !Number.isNaN(latency))
      .sort();
    return {
      p50: percentile(counted, 0.5),
      p99: percentile(counted, 0.99),
      max: counted.at(-1),
    };
  }
}
