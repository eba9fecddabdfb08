import { types } from 'node:util';

/**
 * Takes secrets out of what is logged, stored and shown. Drivers quote connection strings in their errors, and people paste logs into
 * bug reports.
 */

/** Stands where a secret was. */
export const HIDDEN = '***';

/** Errors that are looked through, of causes of causes and of lists of errors: there may be more than the stack of calls has room for. */
const MOST_ERRORS = 1_000;

/** Names of options, parameters and headers whose values nobody is to read. */
const SECRET =
  /passw(?:or)?d$|passphrase|^pass$|pwd$|secret|(?:^|access|auth|session|refresh|id|api|security)[-_]?token$|(?:api|access|private|account|shared)[-_]?key$|(?:^|[-_])sig(?:nature)?$|credential|^sasl$|^authorization$|^authmechanismproperties$|^pfx$|^(?:set-)?cookie$/i;

const TEXT = String.raw`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'`;
/** `name=value` of a query or a command line, also `name='value'`. */
const ASSIGNED = new RegExp(String.raw`(?<name>[\w.-]{1,100})=(?<value>${TEXT}|[^\s&;,'"\x60)\]}]+)`, 'g');
/** `"name": "value"` of JSON, `name: 'value'` as Node prints objects. */
const QUOTED = new RegExp(
  String.raw`(?<quote>["']?)(?<![\w.-])(?<name>[\w.-]{1,100})\k<quote>\s{0,5}:\s{0,5}(?<value>${TEXT})`,
  'g',
);
/** JSON within JSON. */
const ESCAPED = /\\"(?<name>[\w.-]{1,100})\\"\s{0,5}:\s{0,5}\\"(?<value>(?:[^"\\]|\\[^"])*)\\"/g;
/** A header such as `x-api-key: value`, or a line of YAML; not what a sentence says of a password. */
const HEADER = /(?<before>^|[\s,;({[])(?<name>[\w.-]{1,100}): (?!\S{0,100}:\s)(?<value>[^\s,;'"]+)/gm;
/** `--name value` of a command line. */
const OPTION = /(?<![\w-])(?<name>--?[\w-]{2,100}) (?<value>[^\s-]\S*)/g;
const COOKIES = /\b(?<name>(?:Set-)?Cookie): [^\r\n]+/gi;
/** Their values are hidden on their own. */
const SCHEMES: ReadonlySet<string> = new Set(['Bearer', 'Basic']);
const SCHEMED = /\b(?<scheme>Bearer|Basic) (?<value>[\w+/.~=-]{8,})/g;

const PRIVATE_KEY = /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?/g;

/** True for an option, a parameter or a header that holds a secret. */
export function isSecret(name: string): boolean {
  // 'sasl.password', 'passwords[1]'
  return SECRET.test(name.replace(/\[\d+\]$/, '').replace(/^.*\./, ''));
}

/**
 * A text without the credentials in it: user and password of each URL, and the values of what is named like a secret. A password that
 * holds `/`, `@` or `#` has to be percent-encoded in a URL, and often is not: all up to the last `@` of the URL goes.
 */
export function redact(text: string): string {
  let clean = text.includes('://') ? redactUrls(text) : text;
  if (clean.includes('=')) {
    clean = clean.replace(ASSIGNED, (all, name: string) => (isSecret(name) ? `${name}=${HIDDEN}` : all));
  }
  if (clean.includes(':')) {
    clean = clean.replace(QUOTED, (all, quote: string, name: string, value: string) =>
      isSecret(name) ? `${quote}${name}${quote}: ${value.charAt(0)}${HIDDEN}${value.charAt(0)}` : all,
    );
    clean = redactHeaders(clean);
  }
  if (clean.includes('--')) {
    clean = clean.replace(OPTION, (all, name: string) => (isSecret(name) ? `${name} ${HIDDEN}` : all));
  }
  if (clean.includes('-----BEGIN ')) clean = clean.replace(PRIVATE_KEY, HIDDEN);
  return clean.replace(SCHEMED, (_all, scheme: string) => `${scheme} ${HIDDEN}`);
}

function redactHeaders(text: string): string {
  const headers = text
    .replace(ESCAPED, (all, name: string) => (isSecret(name) ? `\\"${name}\\": \\"${HIDDEN}\\"` : all))
    .replace(COOKIES, (_all, name: string) => `${name}: ${HIDDEN}`);
  return headers.replace(HEADER, (all, before: string, name: string, value: string, at: number) => {
    if (!isSecret(name) || value === HIDDEN || SCHEMES.has(value)) return all;
    const isIndented =
      before.trim() === '' && /\n[ \t]+$/.test(headers.slice(Math.max(0, at - 40), at + before.length));
    return /[A-Z_.-]/.test(name.slice(1)) || isIndented ? `${before}${name}: ${HIDDEN}` : all;
  });
}

/** A URL, or what was meant to be one, without user, password and parameters; for people. */
export function redactUrl(given: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:(?:\/\/)?/i.exec(given)?.[0] ?? '';
  // An '@' behind it belongs to a parameter; a password with a '?' in it is followed by no 'name='.
  const rest = given.slice(scheme.length).replace(/[?&][\w.-]+=.*$/s, '');
  const at = rest.lastIndexOf('@');
  // A port is a number: this was a password, and the host is missing.
  if (at < 0 && scheme.endsWith('//') && /^[^/[\]:,]*:(?!\d{1,5}(?:[/,?#]|$))[^/]/.test(rest))
    return `${scheme}${HIDDEN}`;
  // Without slashes and without '@' it may be a host and a port, or a user and a password.
  if (at < 0 && scheme !== '' && !scheme.endsWith('//') && !/^\d{1,5}$/.test(rest)) return `${scheme}${HIDDEN}`;
  return scheme + rest.slice(at + 1).replace(/[?#].*$/s, '');
}

/**
 * True for a URL whose user or password holds a `/` as it is. A reader takes a part of the password for the host, and tells it in
 * errors of its own: such a URL is refused.
 */
export function isAmbiguousUrl(given: string): boolean {
  const rest = given.replace(/^[a-z][a-z0-9+.-]*:\/\//i, '').replace(/[?&][\w.-]+=.*$/s, '');
  const slash = rest.indexOf('/');
  return slash >= 0 && rest.lastIndexOf('@') > slash;
}

/** What such a URL needs. */
export const PERCENT_ENCODED = "'/', '@', ':' and '%' in user and password percent-encoded ('/' is %2F, '@' is %40)";

/** What was given for an option of this name, without the secrets in it. */
export function redactOption(option: string, given: unknown): unknown {
  return redactValue(given, 4, isTls(option));
}

function isTls(name: string): boolean {
  return /^(?:tls|ssl)$/i.test(name);
}

/** `user:password@host`, as the address of a broker. */
function redactAddress(text: string): string {
  const clean = redact(text);
  return /^[^\s/@]*:[^\s/]*@/.test(clean) ? HIDDEN + clean.slice(clean.lastIndexOf('@')) : clean;
}

/** Whatever was given for an option, without the secrets in it: plain objects and lists are copied, as far as they go deep. */
export function redactValue(value: unknown, depth = 4, ofTls = false): unknown {
  if (typeof value === 'string') return redactAddress(value);
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return value;
  if (value instanceof URL) return redactUrl(value.href);
  if (Array.isArray(value)) return depth === 0 ? HIDDEN : value.map((each) => redactValue(each, depth - 1));
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  if (depth === 0) return HIDDEN;
  // Getters of others may throw.
  const entries = Object.entries(Object.getOwnPropertyDescriptors(value)).filter(([, { enumerable }]) => enumerable);
  const hasKey = ofTls || 'cert' in value || 'ca' in value;
  return Object.fromEntries(
    entries.map(([name, { value: inner }]) => [
      name,
      isSecret(name) || (hasKey && name === 'key') ? HIDDEN : redactValue(inner, depth - 1, isTls(name)),
    ]),
  );
}

/** The details of an error. Lists of results are as they are: what was appended is no secret of ours. */
export function redactDetails(details: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
  for (const value of Object.values(details))
    if (typeof value === 'string' && redact(value) !== value) return hidden(details);
  return details;
}

function hidden(details: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(details).map(([name, value]) => [name, typeof value === 'string' ? redact(value) : value]),
  );
}

/**
 * An error of another library for `cause`. Node prints causes when it prints an error, so one with a secret in it is replaced by a copy
 * of the same class without; otherwise it is the error itself. What comes after `MOST_ERRORS` is hidden.
 */
export function redactCause(cause: unknown, seen = new Set<unknown>()): unknown {
  if (typeof cause === 'string') return redact(cause);
  if (types.isProxy(cause) || !types.isNativeError(cause)) return cause;
  // A cause of itself: what leads to it may be hidden, so it is not shown again.
  if (seen.has(cause) || seen.size >= MOST_ERRORS) return HIDDEN;
  seen.add(cause);
  const descriptors = descriptorsOf(cause);
  const changes: Record<string, PropertyDescriptor> = {};
  for (const [name, descriptor] of Object.entries(descriptors)) {
    // Accessors (V8's own stack is one) are read, and may throw.
    const before = 'value' in descriptor ? (descriptor.value as unknown) : read(cause, name);
    const after = cleaned(name, before, seen);
    if (after !== before) {
      changes[name] = { value: after, enumerable: descriptor.enumerable ?? false, configurable: true, writable: true };
    }
  }
  if (Object.keys(changes).length === 0) return cause;
  const copy = new Error('');
  Object.setPrototypeOf(copy, Object.getPrototypeOf(cause) as object);
  return Object.defineProperties(copy, { ...descriptors, ...changes });
}

/** V8 makes the text of a stack when it is looked at, out of a message whose getter may throw. */
function descriptorsOf(error: object): Record<string, PropertyDescriptor> {
  try {
    return Object.getOwnPropertyDescriptors(error);
  } catch {
    return {};
  }
}

function cleaned(name: string, value: unknown, seen: Set<unknown>): unknown {
  if (typeof value === 'string') return isSecret(name) ? HIDDEN : redact(value);
  if (name === 'cause') return redactCause(value, seen);
  if (name === 'errors' && Array.isArray(value)) {
    const errors = value.map((each) => redactCause(each, seen));
    return errors.some((each, index) => each !== value[index]) ? errors : value;
  }
  return value;
}

function read(from: object, name: string): unknown {
  try {
    return (from as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}

/** By hand: a pattern that looks for the last `@` takes quadratic time on hostile text. */
function redactUrls(text: string): string {
  let clean = '';
  let from = 0;
  for (let scheme = text.indexOf('://'); scheme >= 0; scheme = text.indexOf('://', from)) {
    const authority = scheme + 3;
    const end = endOfUrl(text, authority, quoteBefore(text, scheme));
    // Those of files have no users, but paths like node_modules/@nestjs.
    const at = text.startsWith('file', scheme - 4) ? -1 : text.lastIndexOf('@', end - 1);
    clean += text.slice(from, authority) + (at < authority ? text.slice(authority, end) : HIDDEN + text.slice(at, end));
    from = end;
  }
  return clean + text.slice(from);
}

/** The quotation mark that the URL stands in: a password may hold spaces then. */
function quoteBefore(text: string, start: number): string | undefined {
  let scheme = start;
  while (scheme > 0 && start - scheme < 40 && /[a-z0-9+.-]/i.test(text[scheme - 1] as string)) scheme -= 1;
  const before = text[scheme - 1];
  return before === '"' || before === "'" || before === '`' ? before : undefined;
}

function endOfUrl(text: string, from: number, quote: string | undefined): number {
  const closing = quote === undefined ? -1 : text.indexOf(quote, from);
  if (closing >= 0 && closing - from < 4_000) return closing;
  for (let at = from; at < text.length; at += 1) if (/[\s"'`<>]/.test(text[at] as string)) return at;
  return text.length;
}
