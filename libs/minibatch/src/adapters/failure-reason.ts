/** Why a source or sink of an adapter failed: `details.reason` of its errors. */
export const FailureReason = {
  /** There is no connection: the server is down, its name is wrong, or its certificate is not trusted. */
  Unreachable: 'UNREACHABLE',
  /** The server rejects the credentials, or the user lacks a right. */
  Unauthorized: 'UNAUTHORIZED',
  /** The server rejects a request for another reason: a client id, a protocol version, a subscription. */
  Refused: 'REFUSED',
  /** An established connection broke. */
  Lost: 'LOST',
  /** A topic, an exchange or a queue is missing, or is not what the adapter needs. */
  Declaration: 'DECLARATION',
  /** The server no longer knows the stored position. */
  LostPosition: 'LOST_POSITION',
  /** The stream cannot take a message, and `unstorable` is `'fail'`, failed itself, or holds back too many. */
  Unstorable: 'UNSTORABLE',
  /** The bytes of a document cannot be decoded. */
  Undecodable: 'UNDECODABLE',
  /** A result cannot be made into what is sent or written; nothing of it was. */
  Unencodable: 'UNENCODABLE',
  /** The server did not take some results: `details.failed` lists them. */
  NotWritten: 'NOT_WRITTEN',
  /** There was no answer in time. */
  Timeout: 'TIMEOUT',
  /** The signal aborted first. */
  Aborted: 'ABORTED',
  /** The connection was closed from this side. */
  Closed: 'CLOSED',
} as const;
export type FailureReason = (typeof FailureReason)[keyof typeof FailureReason];
