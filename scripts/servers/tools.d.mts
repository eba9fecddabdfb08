/** What tests start that is no package of npm, and how to get it. */
export interface Tool {
  readonly programs: readonly string[];
  /** Packages of Debian and Ubuntu that hold them. */
  readonly debian: readonly string[];
  readonly brew: string;
}

export type ToolName = 'mosquitto' | 'openssl' | 'redis' | 'rabbitmq' | 'java' | 'python' | 'pip' | 'postgres';

export const TOOLS: Readonly<Record<ToolName, Tool>>;

/** All tests with all servers in a container, on any machine with Docker. */
export const CONTAINER: string;

/** One line: how a developer gets a tool. */
export function howToGet(tool: Tool, machine: { readonly platform: NodeJS.Platform; readonly hasApt: boolean }): string;
