import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** Names a process so that another one on the same host can tell whether it is dead. */
export interface ProcessIdentity {
  readonly id: string;
  readonly host: string;
  /** The boot and the pid namespace; empty where they can't be read. */
  readonly bootId: string;
  readonly pid: number;
  /** Empty where it can't be read. */
  readonly startTime: string;
}

export function thisProcess(): ProcessIdentity {
  return {
    id: randomUUID(),
    host: hostname(),
    bootId: bootId(),
    pid: process.pid,
    startTime: processStat('self')?.startTime ?? '',
  };
}

/**
 * True only if it is certain: the owner ran on this very host, in this boot and process namespace, and its process is gone
 * (or its pid belongs to another one now). Every doubt is false; then the lease time decides.
 */
export function isDead(owner: ProcessIdentity): boolean {
  const boot = bootId();
  if (boot === '' || owner.startTime === '' || owner.bootId !== boot || owner.host !== hostname()) return false;
  const stat = processStat(owner.pid);
  // Not to be read is not the same as not to be there: /proc may hide the processes of others, or no file can be opened any more.
  if (stat === undefined) return isGone(owner.pid);
  return stat.startTime !== owner.startTime || stat.state === 'Z' || stat.state === 'X';
}

/**
 * The boot and the pid namespace: containers that share a host's name and kernel do not see each other's processes, so a
 * pid that is missing here says nothing of one there.
 */
function bootId(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot}/${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return '';
  }
}

/** Asks the system itself; a process that may not be signalled is there. */
function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** Undefined where there is no such process, or where it can't be read. The command name in the line may hold blanks and brackets: read from its end. */
function processStat(pid: number | 'self'): { state: string; startTime: string } | undefined {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}
