import { createdOf, type EncodedMessage, isReplayed } from '../encoded-message.js';
import { MessageRemoval, type LeavingMessage } from './message-removal.js';
import { StreamAppend } from './append.js';
import { returnedKey } from './keys.js';
import { encodeReturned, type GroupRecord, type StreamRecord } from './records.js';
import type { WriteView } from './view.js';

/** Appends messages for one group each, within one transaction: for all other groups they count as committed. */
export class GroupAppend {
  /** Of the messages so far. */
  bytes = 0;
  private readonly append: StreamAppend;
  private readonly groups: readonly GroupRecord[];
  private readonly messages = new Map<number, Map<string, LeavingMessage[]>>();

  constructor(
    private readonly view: WriteView,
    private readonly stream: StreamRecord,
  ) {
    this.append = new StreamAppend(view, stream.id);
    this.groups = stream.groups;
  }

  /** Behind all that is there; the message's number. */
  put(partition: number, owner: string, encoded: EncodedMessage): number {
    const seq = this.append.put(partition, encoded);
    const owners = this.messages.get(partition) ?? new Map<string, LeavingMessage[]>();
    const messages = owners.get(owner) ?? [];
    messages.push({ seq, created: createdOf(encoded), deduped: false, redriven: true });
    this.messages.set(partition, owners.set(owner, messages));
    this.bytes += encoded.length;
    // A copy of a kept message is not kept again, whichever group commits it.
    if (!isReplayed(encoded)) this.note(seq, owner);
    return seq;
  }

  finish(): void {
    const { view, stream, groups } = this;
    this.append.finish();
    const names = new Set(groups.map(({ name }) => name));
    for (const [partition, owners] of this.messages) {
      const removal = new MessageRemoval(view, stream, partition, Date.now());
      // Done for all but the owner, for whom they stay.
      for (const [owner, messages] of owners) {
        for (const { id, name } of groups) if (name !== owner) removal.done(id, messages, names, false);
      }
      removal.finish();
    }
  }

  /** By their positions alone, the other groups would seem to have committed the message, and to have kept it if they keep. */
  private note(seq: number, owner: string): void {
    const { view, stream, groups } = this;
    const group = groups.find(({ name }) => name === owner);
    if (group === undefined || groups.length === 1) return;
    view.put(returnedKey(stream.id, seq), encodeReturned({ owner: group.id, later: stream.nextGroup }));
  }
}
