export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Looks until it is so, or for at most that long; false if it never was. */
export async function until(look, { every = 1, most = 60_000 } = {}) {
  for (const began = performance.now(); performance.now() - began < most; await pause(every)) {
    if (await look()) return true;
  }
  return false;
}
