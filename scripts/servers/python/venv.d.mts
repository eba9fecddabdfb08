export interface PythonPackages {
  /** Path of the environment's interpreter. */
  readonly python: string;
  /** For people: packages and versions. */
  readonly label: string;
  /** To be set for it, so that nothing else of the user's counts. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Python with the packages of a list next to this file, installed once a machine by pip, pinned. It needs `python3` with pip, and
 * the first time a package index.
 */
export function pythonWith(name: 'bullmq' | 'minibatch' | 'omegaml' | 'celery' | 'secantusdb'): Promise<PythonPackages>;
