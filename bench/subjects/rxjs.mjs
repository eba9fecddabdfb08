import { bufferCount, concatMap, Subject } from 'rxjs';
import { until } from '../lib/pause.mjs';

/** RxJS `bufferCount` in memory: what there is to gain by giving durability up. */
export default {
  name: 'rxjs',
  label: 'RxJS bufferCount, in memory',
  needs: [],
  durability: 'none: a crash loses everything',
  packages: ['rxjs'],
  without: ['streams', 'idle', 'startup'],

  async open({ size = 1, groups, onWindow }) {
    const waiting = [];
    const subject = new Subject();
    let [started, handled] = [false, 0];
    const append = async (message) => {
      if (started) subject.next(message);
      else waiting.push(message);
    };
    return {
      append,
      appendMany: async (messages) => messages.forEach((message) => void append(message)),
      async start() {
        subject
          .pipe(
            bufferCount(size),
            concatMap(async (window) => {
              for (const group of groups) await onWindow(group, window);
              handled += window.length * groups.length;
            }),
          )
          .subscribe();
        await this.resume();
      },
      async pause() {
        started = false;
      },
      async resume() {
        started = true;
        for (const message of waiting.splice(0)) subject.next(message);
      },
      settled: (messages) => until(() => handled >= messages),
      left: async () => waiting.length,
      close: async () => subject.complete(),
    };
  },
};
