import type { MessageId, StreamStore } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';

/** Messages that are in the store and not visible yet, as on MongoDB those of a transaction that has not committed. */
export class HiddenMessages {
  private readonly ids = new Set<MessageId>();
  private reveals = 0;

  constructor(private readonly store: StreamStore) {}

  hide(id: MessageId): void {
    this.ids.add(id);
  }

  reveal(): void {
    if (this.ids.size > 0) this.reveals += 1;
    this.ids.clear();
  }

  /** Messages that have not appeared yet are in no answer. */
  async answer(call: StoreCall): Promise<unknown> {
    const { ids: hidden, store } = this;
    const isVisible = ({ id }: { id: MessageId }) => !hidden.has(id);
    switch (call.method) {
      case 'fetch': {
        const [key, after, limits] = call.args as Parameters<StreamStore['fetch']>;
        const more = { ...limits, messages: limits.messages + hidden.size };
        const { messages, full } = await store.fetch(key, after, more);
        const visible = messages.filter(isVisible).slice(0, limits.messages);
        return { messages: visible, full: full || visible.length >= limits.messages };
      }
      case 'fetchByTime': {
        const [key, range, after, limits] = call.args as Parameters<StreamStore['fetchByTime']>;
        const more = { ...limits, messages: limits.messages + hidden.size };
        const { messages, full } = await store.fetchByTime(key, range, after, more);
        const visible = messages.filter(isVisible).slice(0, limits.messages);
        return { messages: visible, full: full || visible.length >= limits.messages };
      }
      case 'scan': {
        const [key, after, until, limit] = call.args as Parameters<StreamStore['scan']>;
        const ids = await store.scan(key, after, until, limit + hidden.size);
        return ids.filter((id) => !hidden.has(id)).slice(0, limit);
      }
      case 'poll': {
        const tokens = (await call.proceed()) as string[];
        return tokens.map((token) => `${token}/${this.reveals}`);
      }
      default:
        return call.proceed();
    }
  }
}
