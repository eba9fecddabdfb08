/** Messages that every subject gets alike: a number by which it is known again, and text of `bytes` characters. */
export function messages(from, to, bytes) {
  const text = 'x'.repeat(bytes);
  return Array.from({ length: to - from }, (_, index) => ({ n: from + index, text }));
}

/** The same in parts. */
export function* blocks(count, size, bytes, from = 0) {
  for (let n = 0; n < count; n += size) yield messages(from + n, from + Math.min(count, n + size), bytes);
}
