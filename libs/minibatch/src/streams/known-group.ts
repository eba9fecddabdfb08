import { unknownGroup, unknownStream } from '../errors/store-faults.js';
import type { StreamInfo, StreamStore } from '../storage/stream-store.interface.js';

/** @throws MinibatchError `UnknownStream` */
export async function knownStream(store: StreamStore, stream: string): Promise<StreamInfo> {
  const info = await store.describeStream(stream);
  if (info) return info;
  throw unknownStream(stream);
}

/** @throws MinibatchError `UnknownStream`, `UnknownGroup` */
export async function knownGroup(store: StreamStore, stream: string, group: string): Promise<StreamInfo> {
  const info = await knownStream(store, stream);
  checkGroup(info, group);
  return info;
}

/** @throws MinibatchError `UnknownGroup` */
export function checkGroup({ name, groups }: StreamInfo, group: string): void {
  if (!groups.includes(group)) throw unknownGroup(name, group);
}
