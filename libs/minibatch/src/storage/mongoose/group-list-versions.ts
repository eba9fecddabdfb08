import { type ConsumerKey, consumerId } from '../stream-store.interface.js';

/**
 * The latest known versions of the lists of groups, by stream. They tell whether the copy of a message can be trusted when it is settled.
 * If the list has not changed since the copy was read, every group that may have marked the message as kept is still on the list. If it has
 * changed, such a group may be gone, and only the document knows of its mark.
 */
export class GroupListVersions {
  private readonly heard = new Map<string, number>();
  private readonly commits = new Map<string, number>();

  /** The latest known version; the list may be newer. Messages that are read from now on carry this version. */
  current(stream: string): number | undefined {
    return this.heard.get(stream);
  }

  hear(stream: string, version: number): void {
    this.heard.set(stream, version);
  }

  /** The consumer has committed or taken over with this version of the list. */
  committed(key: ConsumerKey, version: number): void {
    this.commits.set(consumerId(key), version);
    this.hear(key.stream, version);
  }

  /** The consumer has left. What is not known is read from the database. */
  forget(key: ConsumerKey): void {
    this.commits.delete(consumerId(key));
    this.heard.delete(key.stream);
  }

  atCommit(key: ConsumerKey): number | undefined {
    return this.commits.get(consumerId(key));
  }
}
