/** `1 window`, `2 windows`: for log lines and errors. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
