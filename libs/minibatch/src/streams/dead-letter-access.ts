import type { DeadLetter, DeadLetterFilter } from '../storage/stream-store.interface.js';
import { checkFilter } from './dead-letter-filter.js';
import type { StoreAccess } from './store-access.js';

/** Of one read: letters, and bytes, so that a few large ones do not fill the memory. */
const PAGE = 100;
const PAGE_BYTES = 4 * 1024 * 1024;

/** Reads, redrives and discards dead letters. */
export class DeadLetterAccess {
  constructor(private readonly access: StoreAccess) {}

  /** @throws MinibatchError `InvalidOptions` */
  async *read(stream: string, given: DeadLetterFilter): AsyncGenerator<DeadLetter, void, undefined> {
    const what = `deadLetters of '${stream}'`;
    const filter = checkFilter(what, given);
    for (let after: string | undefined; ;) {
      const from = after;
      const page = await this.access.ask(what, (store) => store.deadLetters(stream, filter, from, PAGE, PAGE_BYTES));
      yield* page;
      // One that is not full may have ended with a large letter.
      if (page.length === 0) return;
      after = page.at(-1)?.id;
    }
  }

  /** @throws MinibatchError `InvalidOptions` */
  async redrive(stream: string, given: DeadLetterFilter): Promise<number> {
    const what = `redrive of '${stream}'`;
    const filter = checkFilter(what, given);
    return await this.access.ask(what, (store) => store.redrive(stream, filter));
  }

  /** @throws MinibatchError `InvalidOptions` */
  async discard(stream: string, given: DeadLetterFilter): Promise<number> {
    const what = `discard of '${stream}'`;
    const filter = checkFilter(what, given);
    return await this.access.ask(what, (store) => store.discard(stream, filter));
  }
}
