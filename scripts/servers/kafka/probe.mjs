import { connect } from 'node:net';

/** Longest wait for one answer; milliseconds. */
const ANSWER_TIMEOUT = 2000;

/** Correlation id 7, no client id. */
const HEADER = '00000007ffff';

/**
 * Requests whose answers have error 0 once both coordinators work; asking makes the broker create their topics, without which
 * clients of few retries fail: FindCoordinator v1 and DescribeGroups v0 for a group "w", FindCoordinator v1 and InitProducerId v0
 * for a transactional id "w". Those topics have one partition each, so the answer for "w" holds for every name.
 */
const COORDINATORS = [
  `000a0001${HEADER}00017700`,
  `000f0000${HEADER}00000001000177`,
  `000a0001${HEADER}00017701`,
  `00160000${HEADER}00017700002710`,
];

/** Does the broker take messages, groups and transactions? */
export async function isReady(port) {
  // Metadata v1 names a broker; none while it is fenced.
  if ((await ask(port, `00030001${HEADER}00000000`, 12)) !== 1) return false;
  for (const request of COORDINATORS) if ((await ask(port, request, 14)) !== 0) return false;
  return true;
}

/** Sends one request and resolves with byte number `length` of the answer; undefined if there is none. */
function ask(port, hex, length) {
  return new Promise((resolve) => {
    const request = Buffer.from(hex, 'hex');
    const size = Buffer.alloc(4);
    size.writeInt32BE(request.length);
    let answer = Buffer.alloc(0);
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write(Buffer.concat([size, request])));
    socket.setTimeout(ANSWER_TIMEOUT, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => resolve(answer[length - 1]));
    socket.on('data', (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length >= length) socket.destroy();
    });
  });
}
