import { type ConsumerKey, consumerId } from '../stream-store.interface.js';

/**
 * Versions of the streams' lists of groups, as this process has last heard of them. They tell whether a copy of a message can be trusted
 * when it is settled: as long as the list has not changed since the copy was read, every group that may have marked the message to be
 * kept is still on the list. If it has changed, such a group may be gone, and only the document knows of its mark.
 */
export class GroupListVersions {
  private readonly heard = new Map<string, number>();
  private readonly commits = new Map<string, number>();

  /** What the list has been by now; it may be newer. Copies of messages that are read from now on carry it. */
  current(stream: string): number | undefined {
    return this.heard.get(stream);
  }

  hear(stream: string, version: number): void {
    this.heard.set(stream, version);
  }

  /** The consumer has committed, or has taken over, with this list. */
  committed(key: ConsumerKey, version: number): void {
    this.commits.set(consumerId(key), version);
    this.hear(key.stream, version);
  }

  atCommit(key: ConsumerKey): number | undefined {
    return this.commits.get(consumerId(key));
  }
}
