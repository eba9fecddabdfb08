/** What the tests use of it; the package has no types. */
declare module 'js-yaml' {
  /** The only document of a text. */
  export function load(text: string): unknown;
}
