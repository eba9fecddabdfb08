import { checkKeys, checkName, checkText } from '../common/checks.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { consumersOf } from '../storage/partitions.js';
import type { WindowRecord, WindowRequest } from '../storage/stream-store.interface.js';
import { knownGroup } from './known-group.js';
import type { StoreAccess } from './store-access.js';
import type { OpenWindowChoice, SkipChoice } from './stream-operations.js';

/** Records what an operator asks for an open window. The process that holds the group's lease carries it out. */
export class WindowRequests {
  /** @param request stores the request, and tells the consumers of this process */
  constructor(
    private readonly access: StoreAccess,
    private readonly request: (stream: string, request: WindowRequest) => Promise<void>,
  ) {}

  /** @throws MinibatchError `InvalidOptions`, `UnknownStream`, `UnknownGroup`, `UnknownWindow` */
  async giveUp(stream: string, given: OpenWindowChoice): Promise<void> {
    const where = `giveUp of '${stream}'`;
    checkKeys(where, given, ['group', 'window']);
    await this.access.ask(where, async () => {
      const { group, window } = await this.openWindow(stream, where, given);
      await this.request(stream, { group, window: window.id, action: 'giveUp' });
    });
  }

  /** @throws MinibatchError `InvalidOptions`, `UnknownStream`, `UnknownGroup`, `UnknownWindow`, `WindowNotBlocked` */
  async skip(stream: string, given: SkipChoice): Promise<void> {
    const where = `skip of '${stream}'`;
    checkKeys(where, given, ['group', 'window', 'sink']);
    const sink = given.sink === undefined ? undefined : checkText(where, 'sink', given.sink);
    await this.access.ask(where, async () => {
      const { group, window } = await this.openWindow(stream, where, given);
      checkBlocked(stream, where, group, window, sink);
      const request = { group, window: window.id, action: 'skip' } as const;
      await this.request(stream, sink === undefined ? request : { ...request, sink });
    });
  }

  private async openWindow(
    stream: string,
    where: string,
    given: OpenWindowChoice,
  ): Promise<{ readonly group: string; readonly window: WindowRecord }> {
    const group = checkName(where, 'group', given.group ?? 'default');
    const window = checkText(where, 'window', given.window);
    const { store } = this.access;
    const info = await knownGroup(store, stream, group);
    for (const key of consumersOf(info, [group])) {
      const found = await store.findWindow(key, window);
      if (found) return { group, window: found };
    }
    throw new MinibatchError(
      ErrorCode.UnknownWindow,
      `${where}: group '${group}' has no open window '${window}': the window is committed, or the id is that of a part; ` +
        'then pass window.split.of',
      { details: { stream, group, window } },
    );
  }
}

/** @throws MinibatchError `WindowNotBlocked` unless the sink, or any if none is named, has failed to take the result */
function checkBlocked(
  stream: string,
  where: string,
  group: string,
  window: WindowRecord,
  sink: string | undefined,
): void {
  const blocked = window.blockedSinks ?? [];
  if (blocked.length > 0 && (sink === undefined || blocked.includes(sink))) return;
  const why =
    blocked.length === 0
      ? 'no sink has failed to take its result: its method has not succeeded yet, or a sink has not answered yet (retry.sinkTimeout ' +
        'limits that). Use giveUp if its method fails'
      : `sink '${sink}' has not failed to take its result, but ${blocked.map((name) => `'${name}'`).join(', ')} has`;
  throw new MinibatchError(ErrorCode.WindowNotBlocked, `${where}: window '${window.id}' can't be skipped: ${why}`, {
    details: { stream, group, window: window.id, ...(sink === undefined ? {} : { sink }), blockedSinks: blocked },
  });
}
