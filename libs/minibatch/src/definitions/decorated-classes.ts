import { minibatchLog } from './minibatch-log.js';

/** What a decorator binds; each kind has an option that leaves it to other processes. */
export type Binding = 'consumer' | 'source';

/** A class with one of our decorators. */
export interface DecoratedClass {
  readonly name: string;
  readonly prototype: object;
  readonly binding: Binding;
  /** `Report.summarize consumes 'flights'`, for each use. */
  readonly uses: readonly string[];
}

interface Entry {
  readonly name: string;
  readonly prototype: WeakRef<object>;
  readonly binding: Binding;
  readonly uses: string[];
  /** The log says that no application has it. */
  warned: boolean;
}

/**
 * The decorated classes of the process that no application has found, held weakly: a decorator cannot know whether its class will ever be
 * a provider, and a class that is none does not notice.
 */
const unfound = new Set<Entry>();
const entries = new WeakMap<object, Entry>();
const collected = new FinalizationRegistry<Entry>((entry) => unfound.delete(entry));

/** Instances that an application has found. Under a well-known symbol, for there may be two copies of the package. */
const FOUND = Symbol.for('nestjs-minibatch:found');
const shared = globalThis as { [FOUND]?: WeakSet<object> };
const found = (shared[FOUND] ??= new WeakSet<object>());

export const consumes = (label: string, stream: string): string => `${label} consumes '${stream}'`;
export const pipes = (label: string, name: string): string => `${label} is the pipeline '${name}'`;
export const feeds = (label: string, stream: string): string => `${label} feeds '${stream}'`;

/** The class uses a decorator. Called when the class is defined. */
export function noteDecorated(prototype: object, name: string, binding: Binding, use: string): void {
  const known = entries.get(prototype);
  if (known) {
    known.uses.push(use);
    return;
  }
  const entry: Entry = { name, prototype: new WeakRef(prototype), binding, uses: [use], warned: false };
  entries.set(prototype, entry);
  unfound.add(entry);
  collected.register(prototype, entry);
  askAtBootstrap(prototype, entry);
}

/** The log says of the class that no application has it. An application that starts later may prove that wrong. */
export function noteWarned({ prototype }: DecoratedClass): void {
  const entry = entries.get(prototype);
  if (entry) entry.warned = true;
}

/** An application has found the instance, which is of the class or of a subclass. Takes back a warning that was premature. */
export function noteFound(instance: object): void {
  found.add(instance);
  for (let at: unknown = Object.getPrototypeOf(instance); isObject(at); at = Object.getPrototypeOf(at)) {
    const entry = entries.get(at);
    if (!entry || !unfound.delete(entry) || !entry.warned) continue;
    const { name } = entry;
    minibatchLog().log(
      `${name} is in a module of an application that started later: ignore the earlier warning about it`,
    );
  }
}

/** Classes that no application of the process has found. A class that another one of them extends is not among them. */
export function unfoundClasses(): readonly DecoratedClass[] {
  const all = [...unfound].flatMap(({ prototype, ...entry }) => {
    const alive = prototype.deref();
    return alive ? [{ ...entry, prototype: alive }] : [];
  });
  return all.filter(
    ({ prototype }) => !all.some((other) => Object.prototype.isPrototypeOf.call(prototype, other.prototype)),
  );
}

/**
 * Without `MinibatchModule` nothing of the package runs but the decorator. So it has Nest ask the instance itself, by the hook that any
 * provider may have; a class with a hook of its own is left alone.
 */
function askAtBootstrap(prototype: object, { name, uses }: Entry): void {
  if ('onApplicationBootstrap' in prototype) return;
  Object.defineProperty(prototype, 'onApplicationBootstrap', {
    configurable: true,
    writable: true,
    value(this: object): void {
      if (found.has(this)) return;
      minibatchLog().warn(
        `${uses.join(', ')}, but the application does not import MinibatchModule, so ${name} is never called: import ` +
          'MinibatchModule.forRoot() in the root module',
      );
    },
  });
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
