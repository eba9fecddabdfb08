/** Ports of the loopback address that were free a moment ago: different ones. */
export function freePorts(count: number): Promise<number[]>;

export function freePort(): Promise<number>;
