/** What other characters would mean to BullMQ, to Redis clusters, or as the border between stream and group, is escaped as in a URL. */
function escape(name: string, others: RegExp): string {
  return name.replaceAll(others, (found) => [...Buffer.from(found)].map((byte) => `%${hex(byte)}`).join(''));
}

function hex(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0');
}

/** `minibatch.<stream>.<group>`; a group has no dot of its own, so no two consumers share a queue. */
export function queueNameOf({ stream, group }: { readonly stream: string; readonly group: string }): string {
  return `minibatch.${escape(stream, /[^\w.-]/gu)}.${escape(group, /[^\w-]/gu)}`;
}
