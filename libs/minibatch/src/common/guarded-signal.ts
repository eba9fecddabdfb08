type Callback = (event: Event) => void;
type Listener = Callback | { handleEvent(event: Event): void };
type Options = Parameters<AbortSignal['addEventListener']>[2];
type Handle = (type: string, listener: Listener, options?: Options) => void;

/**
 * Makes a signal safe to hand to user code. Node ends the process when a listener throws, or when a promise that it returns is rejected:
 * the code that aborted the signal has long moved on. Here `threw` is told of it instead, and the other listeners are called.
 */
export function guarded(signal: AbortSignal, threw: (error: unknown) => void): AbortSignal {
  const wrappers = new WeakMap<object, Callback>();
  const wrapperOf = (listener: Listener): Callback => {
    let wrapper = wrappers.get(listener);
    if (!wrapper) {
      wrapper = (event: Event) => {
        try {
          const answer: unknown =
            typeof listener === 'function' ? listener.call(signal, event) : listener.handleEvent(event);
          if (answer instanceof Promise) answer.catch(threw);
        } catch (error) {
          threw(error);
        }
      };
      // The same one for the same listener: it is added once, and can be removed.
      wrappers.set(listener, wrapper);
    }
    return wrapper;
  };
  const add: Handle = signal.addEventListener.bind(signal);
  const remove: Handle = signal.removeEventListener.bind(signal);
  const isListener = (given: unknown): given is Listener =>
    typeof given === 'function' || (typeof given === 'object' && given !== null);
  const methods: Readonly<Record<'addEventListener' | 'removeEventListener', Handle>> = {
    // What is no listener is refused by Node, in its own words.
    addEventListener: (type, listener, options) =>
      add(type, isListener(listener) ? wrapperOf(listener) : listener, options),
    removeEventListener: (type, listener, options) =>
      remove(type, isListener(listener) ? (wrappers.get(listener) ?? listener) : listener, options),
  };
  return Object.assign(signal, methods);
}
