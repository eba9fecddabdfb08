import { counted } from '../lib/rounds.mjs';
import { median, short } from '../lib/stats.mjs';
import { barChart } from './svg.mjs';

const rate = ({ rate: value }) => value;

const CHARTS = [
  ['append', 'append in flight 32', 'Append one by one, 32 in flight: messages/s, logarithmic', rate],
  ['drain', 'drain 100', 'Drain a backlog in windows of 100: messages/s, logarithmic', rate],
  ['both', 'append and drain at once 100', 'Append and drain at once, windows of 100: messages/s, logarithmic', rate],
  ['latency-p50', 'latency at 1000/s', 'Append to handler at 1,000 messages/s, p50: ms, logarithmic', ({ p50 }) => p50],
  ['latency-p99', 'latency at 1000/s', 'Append to handler at 1,000 messages/s, p99: ms, logarithmic', ({ p99 }) => p99],
];

/**
 * @param {string} prefix of the files' names
 * @returns {{ file: string, id: string, title: string, svg: string }[]}
 */
export function charts({ cases, subjects }, prefix) {
  return CHARTS.flatMap(([file, id, title, of]) => {
    const results = cases.find((each) => each.id === id)?.results;
    const bars = subjects.flatMap(({ name, label }) => {
      const values = counted(results?.[name])
        .map(of)
        .filter((value) => value > 0);
      if (values.length === 0) return [];
      const ours = name.startsWith('ours');
      return [{ label, value: median(values), least: Math.min(...values), most: Math.max(...values), ours }];
    });
    return bars.length === 0 ? [] : [{ file: `${prefix}-${file}.svg`, id, title, svg: barChart(title, bars, short) }];
  });
}
