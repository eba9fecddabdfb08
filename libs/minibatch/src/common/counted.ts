/** `1 window`, `2 windows`: for log lines and errors. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** `Report.summarize`, `Report.summarize and 2 other consumers`: for a log line about many that would all say the same. */
export const withOthers = (consumer: string, others: number): string =>
  others > 0 ? `${consumer} and ${counted(others, 'other consumer')}` : consumer;
