import type { TOOLS } from './tools.mjs';

export interface Machine {
  readonly platform: NodeJS.Platform;
  readonly isRoot: boolean;
}

/** The path of a program that is there, or undefined. */
export function onPath(program: string): Promise<string | undefined>;

/** The paths of a tool's programs, installed if need be. Rejects with a `MissingServerError` if it cannot be had. */
export function needTool(name: keyof typeof TOOLS, server: string, machine?: Machine): Promise<string[]>;
