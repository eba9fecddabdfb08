export function javaProgram(wanted: {
  readonly server: string;
  readonly name: string;
  readonly pom: string;
  readonly compile?: (java: string, folder: string) => Promise<void>;
}): Promise<{ java: string; folder: string }>;
