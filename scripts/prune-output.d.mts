/** Removes compiled files whose sources have gone, and folders that are empty then. Returns the paths of the files. */
export function pruneOutput(output: string, sources: string): string[];
