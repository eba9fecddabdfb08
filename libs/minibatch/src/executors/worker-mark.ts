/** Under it a thread finds what `runMinibatchWorker` has made, also if there are two copies of the package. */
export const WORKER: unique symbol = Symbol.for('nestjs-minibatch.worker') as never;
