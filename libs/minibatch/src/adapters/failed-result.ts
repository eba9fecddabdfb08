/** A result that the server of a sink did not take: one of `details.failed` of the error. */
export interface FailedResult {
  /** Position in the array that the handler returned; 0 for a single result. */
  readonly index: number;
  /** What the server calls the failure: MQTT's reason code, MongoDB's code, the name of Kafka's error. Undefined if it gave no answer. */
  readonly code: number | string | undefined;
  readonly message: string;
}
