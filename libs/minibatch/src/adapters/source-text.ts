import { isUtf8 } from 'node:buffer';

const ENCODED = 'base64:';
/** A text that a person wrote has none of these; a binary number has, mostly. */
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F]/;

/**
 * Bytes as a text, other bytes as another one: UTF-8 text as it is; `base64:` and their base64 for what is not UTF-8, has control
 * characters (other than tab and line ends), or begins with `base64:` itself.
 */
export function textOfBytes(bytes: Buffer): string {
  if (isUtf8(bytes)) {
    const text = bytes.toString('utf8');
    if (!CONTROL.test(text) && !text.startsWith(ENCODED)) return text;
  }
  return `${ENCODED}${bytes.toString('base64')}`;
}

/** The values of one header: the one there is; a JSON array if there are several. Undefined if there is none but null. */
export function textOfValues(values: readonly (string | null)[]): string | undefined {
  const [only = null] = values;
  if (values.length > 1) return JSON.stringify(values);
  return only ?? undefined;
}
