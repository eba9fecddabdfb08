import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/**
 * Reads as much of LMDB's own format as it takes to know that opening a data file is safe. LMDB maps the file into memory and trusts
 * what it says of itself: where pages are missing, the first access to one ends the process with SIGBUS.
 *
 * ```text
 * page    0      number, 8 bytes
 *         18     flags, 2 bytes
 *         20     length in bytes of the list of nodes, 2 bytes
 *         24     where each node begins, 2 bytes each, counted from 24
 * meta    24     magic, format, 4 bytes each (page 0 and page 1 are meta pages)
 *         48     page size, 4 bytes; begins the first of two tree records of 48 bytes: of free pages, and of all the rest
 *         144    last page, transaction, 8 bytes each
 * ```
 *
 * All of it is in the byte order of the host, as in memory. These are the ones that Node runs on with lmdb: little-endian.
 */
const MAGIC = 0xbeefc0de;
const FORMAT = 2;
const HEADER_BYTES = 24;
const META_BYTES = 168;
const PAGE_SIZE_AT = 48;
const TREES = [88, 136];
const LAST_PAGE_AT = 144;
const TRANSACTION_AT = 152;
const BRANCH = 1;
const LEAF = 2;
const FLAT = 0x20;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
const OVERFLOWS = 1;
const HOLDS_TREE = 2;
const TREE_ROOT = 40;

export type DataFileState = 'sound' | 'foreign' | 'damaged';

interface Meta {
  readonly pageSize: number;
  readonly lastPage: bigint;
  readonly transaction: bigint;
  readonly roots: readonly bigint[];
}

/** `foreign`: not a database, or one of another format. `damaged`: pages are missing that belong to the database. */
export function inspectDataFile(path: string): DataFileState {
  const file = openSync(path, 'r+');
  try {
    const { size } = fstatSync(file);
    const first = readMeta(file, 0);
    if (first === undefined) return 'foreign';
    const { pageSize } = first;
    if (pageSize < 512 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0) return 'damaged';
    const second = readMeta(file, pageSize);
    if (second === undefined) return 'damaged';
    const meta = second.transaction > first.transaction ? second : first;
    const pages = BigInt(Math.floor(size / pageSize));
    if (pages > meta.lastPage) return 'sound';
    // A database whose last pages are free may end before them: they were never written.
    return new TreeWalk(file, pageSize, pages).isWhole(meta.roots) ? 'sound' : 'damaged';
  } finally {
    closeSync(file);
  }
}

function readMeta(file: number, at: number): Meta | undefined {
  const bytes = Buffer.alloc(META_BYTES);
  if (readSync(file, bytes, 0, META_BYTES, at) < META_BYTES) return undefined;
  if (bytes.readUInt32LE(HEADER_BYTES) !== MAGIC || bytes.readUInt32LE(HEADER_BYTES + 4) !== FORMAT) return undefined;
  return {
    pageSize: bytes.readUInt32LE(PAGE_SIZE_AT),
    lastPage: bytes.readBigUInt64LE(LAST_PAGE_AT),
    transaction: bytes.readBigUInt64LE(TRANSACTION_AT),
    roots: TREES.map((tree) => bytes.readBigUInt64LE(tree)),
  };
}

/** Looks for references to pages beyond the end of a file. */
class TreeWalk {
  private readonly seen = new Set<bigint>();

  constructor(
    private readonly file: number,
    private readonly pageSize: number,
    /** In the file. */
    private readonly pages: bigint,
  ) {}

  isWhole(roots: readonly bigint[]): boolean {
    const waiting = roots.filter((root) => root !== NO_PAGE);
    for (let page = waiting.pop(); page !== undefined; page = waiting.pop()) {
      if (page >= this.pages) return false;
      if (this.seen.has(page)) continue;
      this.seen.add(page);
      const next = this.references(page);
      if (next === undefined) return false;
      for (const reference of next) waiting.push(reference);
    }
    return true;
  }

  /** Pages that the page refers to; undefined if it makes no sense. */
  private references(page: bigint): bigint[] | undefined {
    const bytes = Buffer.alloc(this.pageSize);
    readSync(this.file, bytes, 0, this.pageSize, Number(page) * this.pageSize);
    const flags = bytes.readUInt16LE(18);
    if (bytes.readBigUInt64LE(0) !== page || (flags & (BRANCH | LEAF)) === 0) return undefined;
    const found: bigint[] = [];
    if (flags & FLAT) return found;
    const count = bytes.readUInt16LE(20) >> 1;
    for (let index = 0; index < count; index += 1) {
      const node = HEADER_BYTES + bytes.readUInt16LE(HEADER_BYTES + 2 * index);
      if (node + 8 > this.pageSize) return undefined;
      if (flags & BRANCH) {
        found.push(BigInt(bytes.readUIntLE(node, 6)));
        continue;
      }
      const kind = bytes.readUInt16LE(node + 4);
      const value = node + 8 + bytes.readUInt16LE(node + 6);
      if (value + 8 > this.pageSize) continue;
      if (kind & OVERFLOWS) found.push(...this.overflow(bytes, value));
      else if (kind & HOLDS_TREE && value + TREE_ROOT + 8 <= this.pageSize) {
        const root = bytes.readBigUInt64LE(value + TREE_ROOT);
        if (root !== NO_PAGE) found.push(root);
      }
    }
    return found;
  }

  /** A value that fills pages of its own: only the last of them can be missing alone. It has no references. */
  private overflow(bytes: Buffer, at: number): bigint[] {
    if (at + 24 > this.pageSize) return [];
    const last = bytes.readBigUInt64LE(at) + bytes.readBigUInt64LE(at + 16) - 1n;
    return last < this.pages ? [] : [last];
  }
}
