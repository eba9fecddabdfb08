/** Of a thousand things of a kind, the first ten are logged one by one, then every thousandth. */
export function worthALine(count: number): boolean {
  return count <= 10 || count % 1000 === 0;
}
