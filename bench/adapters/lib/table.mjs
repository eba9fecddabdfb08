/**
 * Runs all subjects of a table in turn, round by round, so that whatever else the machine does hits all of them, and prints messages/s
 * (median, min–max) with the median ratio to the first subject of the same round.
 *
 * @param {readonly (readonly [name: string, run: () => Promise<number>])[]} subjects `run` resolves with messages/s
 * @param {{ rounds: number }} options a round more is run before: code is compiled, connections are known
 */
export async function printTable(subjects, { rounds }) {
  const rates = subjects.map(() => []);
  for (let round = -1; round < rounds; round += 1) {
    for (const [index, [name, run]] of subjects.entries()) {
      if (process.stderr.isTTY) process.stderr.write(`\r${round + 1}/${rounds} ${name.padEnd(60)}`);
      const rate = await run();
      if (round >= 0) rates[index].push(rate);
    }
  }
  if (process.stderr.isTTY) process.stderr.write(`\r${' '.repeat(70)}\r`);
  console.log('subject'.padEnd(52), 'messages/s'.padStart(26), 'ratio'.padStart(7));
  for (const [index, [name]] of subjects.entries()) {
    const ratio = median(rates[index].map((rate, round) => rate / rates[0][round]));
    const [least, most] = [Math.min(...rates[index]), Math.max(...rates[index])];
    const spread = `${median(rates[index]).toFixed(0)} (${least.toFixed(0)}–${most.toFixed(0)})`;
    console.log(name.padEnd(52), spread.padStart(26), ratio.toFixed(2).padStart(7));
  }
  console.log();
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
