import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';

/** Loads the client of an adapter, which is installed only where the adapter is used. @throws MinibatchError `MissingPackage` */
export async function loadPackage<M>(where: string, name: string, load: () => Promise<M>): Promise<M> {
  try {
    return await load();
  } catch (cause) {
    throw new MinibatchError(
      ErrorCode.MissingPackage,
      `${where} needs the package '${name}', which can't be loaded: ${messageOf(cause)}. Run: npm install ${name}`,
      { cause, details: { package: name } },
    );
  }
}
