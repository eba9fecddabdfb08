/** One line on stderr that says what is going on, and lines that stay. */
export class Progress {
  began = performance.now();
  line = '';

  at(what) {
    const seconds = ((performance.now() - this.began) / 1000).toFixed(0).padStart(4);
    if (process.stderr.isTTY) {
      process.stderr.write(`\r\u001b[2K${seconds} s  ${what}`);
      this.line = what;
    } else process.stderr.write(`${seconds} s  ${what}\n`);
  }

  note(what) {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[2K');
    process.stderr.write(`${what}\n`);
  }
}
