import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';

/**
 * Loads an optional package, which is installed only where it is used.
 *
 * @param remedy a command, and what else may follow it
 * @throws MinibatchError `MissingPackage`
 */
export async function loadPackage<M>(
  where: string,
  name: string,
  load: () => Promise<M>,
  remedy = `npm install ${name}`,
): Promise<M> {
  try {
    return await load();
  } catch (cause) {
    throw new MinibatchError(
      ErrorCode.MissingPackage,
      `${where} needs the package '${name}', which can't be loaded: ${messageOf(cause)}. Run: ${remedy}`,
      { cause, details: { package: name } },
    );
  }
}
