import { EJSON } from 'bson';
import { pythonWith } from '../../../scripts/servers/python/venv.mjs';
import { uriOf } from '../../e2e/support/applications.js';
import { NodeProcess } from '../../e2e/support/node-process.js';
import type { TestDatabase } from '../../support/mongo-server.js';
import { repository } from '../../support/workspace.js';

const SCRIPT = repository('test/fixtures/python/peer.py');

/** What the script does; its head says what each takes. */
export type PeerAction = 'produce' | 'values' | 'consume' | 'open' | 'close' | 'read';

export interface PeerOptions {
  readonly stream: string;
  readonly messages?: number;
  readonly batch?: number;
  readonly paced?: boolean;
  readonly size?: number;
  /** Seconds. */
  readonly interval?: number;
  readonly relaxed?: boolean;
  readonly keep?: boolean;
  readonly until?: number;
  readonly hold?: boolean;
}

/** The Python side of a shared database, with the real library. */
export class Peer {
  private constructor(readonly process: NodeProcess) {}

  static async start(database: TestDatabase, action: PeerAction, options: PeerOptions): Promise<Peer> {
    const { python, env } = await pythonWith('minibatch');
    return new Peer(
      new NodeProcess(SCRIPT, [uriOf(database), action, JSON.stringify(options)], { program: python, env }),
    );
  }

  /** Runs it to its end. */
  static async run(database: TestDatabase, action: PeerAction, options: PeerOptions): Promise<Peer> {
    const peer = await Peer.start(database, action, options);
    await peer.success();
    return peer;
  }

  async success(): Promise<void> {
    await this.process.success();
  }

  /** What it has said after this word, in canonical extended JSON made into BSON values: an int is an `Int32` or a `Long`. */
  said(word: string): unknown[] {
    const prefix = `${word} `;
    return this.process.lines
      .filter((line) => line.startsWith(prefix))
      .map((line) => EJSON.parse(line.slice(prefix.length), { relaxed: false }) as unknown);
  }

  /** The messages of all windows that it has forwarded. */
  windows(): unknown[] {
    return this.said('window').flat();
  }
}
