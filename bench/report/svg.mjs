/** Horizontal bars on a logarithmic scale: the subjects are thousands of times apart. */
const WIDTH = 860;
const LABEL = 250;
const RIGHT = 90;
const ROW = 26;
const TOP = 46;

const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/**
 * @param {string} title
 * @param {{ label: string, value: number, least?: number, most?: number, ours?: boolean }[]} bars
 * @param {(value: number) => string} write
 */
export function barChart(title, bars, write) {
  const low = 10 ** Math.floor(Math.log10(Math.min(...bars.map(({ value, least = value }) => least))));
  const high = Math.max(...bars.map(({ value, most = value }) => most));
  const span = Math.log10(high / low) || 1;
  const x = (value) => LABEL + (Math.max(0, Math.log10(value / low)) / span) * (WIDTH - LABEL - RIGHT);
  const height = TOP + bars.length * ROW + 24;
  const lines = [];
  for (let mark = low; mark <= high; mark *= 10) {
    const at = x(mark).toFixed(1);
    lines.push(`<line x1="${at}" y1="${TOP - 6}" x2="${at}" y2="${height - 20}" stroke="#8884"/>`);
    lines.push(
      `<text x="${at}" y="${height - 6}" text-anchor="middle" font-size="11" fill="#777">${write(mark)}</text>`,
    );
  }
  bars.forEach(({ label, value, least = value, most = value, ours }, index) => {
    const y = TOP + index * ROW;
    const [from, to] = [LABEL, x(value)];
    const middle = y + 9;
    lines.push(
      `<text x="${LABEL - 8}" y="${y + 13}" text-anchor="end"${ours ? ' font-weight="bold"' : ''}>${escape(label)}</text>`,
    );
    lines.push(
      `<rect x="${from}" y="${y}" width="${Math.max(1, to - from).toFixed(1)}" height="18" fill="${ours ? '#d9480f' : '#748ffc'}"/>`,
    );
    if (most > least) {
      lines.push(
        `<line x1="${x(least).toFixed(1)}" y1="${middle}" x2="${x(most).toFixed(1)}" y2="${middle}" stroke="#333" stroke-width="2"/>`,
      );
    }
    lines.push(`<text x="${(x(most) + 6).toFixed(1)}" y="${y + 13}">${write(value)}</text>`);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="13">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="8" y="20" font-size="15" font-weight="bold">${escape(title)}</text>`,
    ...lines,
    '</svg>',
    '',
  ].join('\n');
}
