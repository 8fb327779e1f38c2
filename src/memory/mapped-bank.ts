/** A bank in a file that is mapped into memory. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { InvalidArgumentError, KontrastError, keep, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import { withSource } from '../torch/byte-source';
import { contiguousStrides, tensorOn } from '../torch/file-storage';
import { writeFileAtomic, writeFully } from '../torch/files';
import { openSafetensors } from '../torch/safetensors';
import { planSafetensors, readLayout, type SafetensorsLayout } from '../torch/safetensors-layout';
import type { StateDict, Stateful } from '../torch/state';
import { integerFrom, positiveInteger } from '../nn/checks';
import { checkColumn, checkPositions, checkRows, stateCount, stateValues } from './checks';
import { nearestRows, PART } from './nearest';
import { decode, encode, readDType, storedDType, type StoredDType } from './stored';

/** What a new {@link MappedBank} is made from. */
export interface MappedBankOptions {
  /** How many rows it has. */
  size: number;
  /** The size D of an embedding. */
  dimension: number;
  /** The type that embeddings are held in. Default `'float32'`. */
  dtype?: StoredDType;
  /** Whether every row has a label, int64. Default false. */
  labels?: boolean;
  /** Whether every row has an id, int64. Default false. */
  ids?: boolean;
  /** Whether a file that is there is replaced. Default false: it is an error. */
  overwrite?: boolean;
}

/** Rows of a bank one after the other. */
export interface MappedRows {
  /** The first row's position. */
  start: number;
  /** [n, D] on the CPU */
  embeddings: Tensor;
  /** int64 [n] */
  labels?: Tensor;
  /** int64 [n] */
  ids?: Tensor;
}

const FORMAT = 'kontrast bank';
const VERSION = '1';
/** Zeros that are written at once. */
const BLOCK = 1 << 24;

const COLUMNS = ['embeddings', 'scales', 'labels', 'ids', 'writes'] as const;
type Column = (typeof COLUMNS)[number];

/**
 * A bank that is larger than memory: its rows lie in a file that is mapped, so that the system brings in what is used and lets go of
 * it again. It has a fixed number of rows, zeros until they are written.
 *
 * The file is a safetensors file, which any tool reads: `embeddings` [n, D], `scales` [n] for int8, `labels` and `ids` int64 [n], and `writes`, how many times it was
 * written to; its metadata have the format's name and version. It is created whole, under a temporary name, with all its bytes on
 * the disk: a map has no other way to say that a disk is full than to end the process. A file that is cut off, of another format or version, or that may not
 * be written is refused when it is opened. While it is open nobody may shorten it, and just one process should write to it.
 *
 * ```ts
 * using bank = MappedBank.create('corpus.bank', { size: 1_000_000, dimension: 128, dtype: 'int8' });
 * for (…) bank.write(start, embeddings);
 * bank.flush();
 * const hard = bank.rows(indices, { device: 'cuda' });
 * ```
 *
 * All tensors that it takes may be on any device; positions too. Nothing that it gives has a gradient. Mapping for writing is LibTorch's `from_file`; it
 * goes through the system's cache, so that another process sees writes at once, and a power cut loses what was not flushed.
 */
export class MappedBank implements Stateful {
  readonly path: string;
  readonly size: number;
  readonly dimension: number;
  readonly dtype: StoredDType;
  readonly writable: boolean;
  readonly #columns: Map<Column, Tensor>;
  /** Of the open file, for flushing; null when it is read only or closed. */
  #file: number | null;
  #isOpen = true;

  private constructor(file: string, columns: Map<Column, Tensor>, descriptor: number | null) {
    const embeddings = columns.get('embeddings')!;
    this.path = file;
    this.size = embeddings.sizeOf(0);
    this.dimension = embeddings.sizeOf(1);
    this.dtype = storedDType(embeddings.dtype, 'MappedBank: embeddings');
    this.writable = descriptor !== null;
    this.#columns = columns;
    this.#file = descriptor;
  }

  /**
   * Makes a file of zeros, and opens it for writing.
   *
   * @throws KontrastError code `FILE_WRITE` if the disk has no room for it, or the system refuses; no file is left then
   * @throws InvalidArgumentError if options do not fit, or the file is there and `overwrite` is not set
   */
  static create(file: string, options: MappedBankOptions): MappedBank {
    const what = 'MappedBank';
    const { dtype = 'float32', labels = false, ids = false, overwrite = false } = options;
    const size = positiveInteger(options.size, `${what}: size`);
    const dimension = positiveInteger(options.dimension, `${what}: dimension`);
    storedDType(dtype, `${what}: embeddings`);
    if (!overwrite && fs.existsSync(file)) {
      throw new InvalidArgumentError(`${what}: '${file}' is there already; open it, or create it with overwrite: true`);
    }
    const { header, layout } = planSafetensors(
      [
        { name: 'embeddings', dtype, shape: [size, dimension] },
        ...(dtype === 'int8' ? [{ name: 'scales', dtype: 'float32', shape: [size] }] : []),
        ...(labels ? [{ name: 'labels', dtype: 'int64', shape: [size] }] : []),
        ...(ids ? [{ name: 'ids', dtype: 'int64', shape: [size] }] : []),
        { name: 'writes', dtype: 'int64', shape: [1] },
      ],
      { format: FORMAT, version: VERSION },
    );
    const bytes = layout.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
    checkRoom(file, header.byteLength + bytes);
    writeFileAtomic(file, (descriptor) => {
      writeFully(descriptor, header);
      const zeros = new Uint8Array(Math.min(bytes, BLOCK));
      for (let done = 0; done < bytes; done += zeros.byteLength) {
        writeFully(descriptor, zeros.subarray(0, Math.min(zeros.byteLength, bytes - done)));
      }
    });
    return MappedBank.open(file, { write: true });
  }

  /**
   * Opens a file that {@link MappedBank.create} made.
   *
   * @param options `write`: whether rows may be written. Default false
   * @throws KontrastError code `SAFETENSORS` if the file is cut off or damaged, `FILE_READ` if it cannot be read, `FILE_WRITE` if it shall be written
   * and may not
   * @throws InvalidArgumentError if it is no bank, or one of another version
   */
  static open(file: string, { write = false }: { write?: boolean } = {}): MappedBank {
    const layout = withSource(file, readLayout);
    checkFormat(file, layout);
    if (!write) {
      using opened = openSafetensors(file);
      const columns = scope(() => {
        const names = layout.tensors.map(({ name }) => name as Column);
        return new Map(names.map((name) => [name, keep(opened.read(name))]));
      });
      return new MappedBank(file, columns, null);
    }
    const descriptor = openForWriting(file);
    try {
      const { size, ino } = fs.fstatSync(descriptor);
      const end = Math.max(...layout.tensors.map(({ offset, byteLength }) => offset + byteLength));
      // LibTorch would lengthen a file that is too short, without a word.
      if (size !== end || fs.statSync(file).ino !== ino) {
        throw new KontrastError(`'${file}' changed while it was opened`, { code: 'FILE_READ' });
      }
      const columns = scope(() => {
        const whole = torch.fromFile(path.resolve(file), { shared: true, size, dtype: 'uint8' });
        return new Map(
          layout.tensors.map(({ name, dtype, shape, offset, byteLength }) => {
            const step = byteLength / shape.reduce((product, length) => product * length, 1);
            return [name as Column, keep(tensorOn(whole, dtype, shape, contiguousStrides(shape), offset / step))];
          }),
        );
      });
      return new MappedBank(file, columns, descriptor);
    } catch (error) {
      fs.closeSync(descriptor);
      throw error;
    }
  }

  /** Whether rows have labels. */
  get hasLabels(): boolean {
    return this.#columns.has('labels');
  }

  /** Whether rows have ids. */
  get hasIds(): boolean {
    return this.#columns.has('ids');
  }

  /** How many times the file was written to, ever. */
  get writes(): number {
    return Number(this.#of('writes').itemSync());
  }

  /**
   * Writes some rows, with their labels and ids if the bank has them.
   *
   * @param rows where: the first row's position for rows one after the other, or int64 [N], distinct
   * @param embeddings [N, D] of any floating-point dtype
   * @throws InvalidArgumentError if the bank is open for reading or something does not fit, before anything changes
   */
  write(rows: number | Tensor, embeddings: Tensor, { labels, ids }: { labels?: Tensor; ids?: Tensor } = {}): void {
    const what = 'MappedBank';
    const first = this.#of('embeddings');
    if (!this.writable) {
      throw new InvalidArgumentError(`${what}: '${this.path}' is open for reading; open it with write: true`);
    }
    checkRows(embeddings, this.dimension, undefined, what, 'embeddings');
    const count = embeddings.sizeOf(0);
    for (const [name, value] of Object.entries({ labels, ids }) as ['labels' | 'ids', Tensor | undefined][]) {
      if ((value !== undefined) !== this.#columns.has(name)) {
        throw new InvalidArgumentError(
          `${what}: ${value === undefined ? `every row needs ${name}` : `it was made without ${name}`}`,
        );
      }
      if (value !== undefined) checkColumn(value, [count], 'int64', value.device, what, name);
    }
    if (typeof rows === 'number') {
      integerFrom(0, rows, `${what}: the first row`);
      if (rows + count > this.size) {
        throw new InvalidArgumentError(`${what}: ${count} rows from row ${rows} on do not fit into ${this.size}`);
      }
    } else checkPositions(rows, this.size, rows.device, what, { count, distinct: true, noun: 'rows' });
    noGrad(() =>
      scope(() => {
        const at = typeof rows === 'number' ? null : rows.to({ device: 'cpu' });
        const put = (name: Column, values: Tensor): void => {
          const target = name === 'embeddings' ? first : this.#of(name);
          if (at === null) target.narrow(0, rows as number, count).copy_(values);
          else target.indexCopy_(0, at, values.to({ device: 'cpu' }));
        };
        const { values, scales } = encode(embeddings, this.dtype);
        put('embeddings', values);
        if (scales !== null) put('scales', scales);
        if (labels !== undefined) put('labels', labels);
        if (ids !== undefined) put('ids', ids);
        this.#of('writes').add_(1);
      }),
    );
  }

  /**
   * Some rows' embeddings, [N, D], a copy. They are read in the order of the file, a block at a time.
   *
   * @param rows int64 [N], from 0 to n − 1
   * @param options `device`: where they go; default: where the positions are. `block`: rows at a time; default 65,536
   */
  rows(rows: Tensor, { device = rows.device, block = PART }: { device?: Device; block?: number } = {}): Tensor {
    const scales = this.#columns.get('scales');
    return this.#gather(rows, block, device, readDType(this.dtype), [this.dimension], (some) =>
      decode({
        values: this.#of('embeddings').indexSelect(0, some),
        scales: scales === undefined ? null : scales.indexSelect(0, some),
      }),
    );
  }

  /** Some rows' labels, int64 [N]. @throws InvalidArgumentError if the bank has none */
  labels(rows: Tensor, { device = rows.device }: { device?: Device } = {}): Tensor {
    const labels = this.#of('labels');
    return this.#gather(rows, PART, device, 'int64', [], (some) => labels.indexSelect(0, some));
  }

  /** Some rows' ids, int64 [N]. @throws InvalidArgumentError if the bank has none */
  ids(rows: Tensor, { device = rows.device }: { device?: Device } = {}): Tensor {
    const ids = this.#of('ids');
    return this.#gather(rows, PART, device, 'int64', [], (some) => ids.indexSelect(0, some));
  }

  /** All rows in order, a block at a time: views of the map (copies for int8), to be read before the bank is closed. */
  *blocks(block = PART): Generator<MappedRows, void, undefined> {
    positiveInteger(block, 'MappedBank: block');
    for (let start = 0; start < this.size; start += block) {
      const count = Math.min(block, this.size - start);
      const part = (name: Column): Tensor => this.#of(name).narrow(0, start, count);
      yield {
        start,
        embeddings: this.#read(start, count),
        ...(this.hasLabels && { labels: part('labels') }),
        ...(this.hasIds && { ids: part('ids') }),
      };
    }
  }

  /**
   * The k rows of highest cosine for each query, nearest first, exactly. The bank is read once.
   *
   * @param queries [N, D] of any floating-point dtype, on any device, where the search is done
   * @returns cosines [N, k] and rows int64 [N, k]
   */
  nearest(
    queries: Tensor,
    { k = 1, block = PART }: { k?: number; block?: number } = {},
  ): { similarities: Tensor; rows: Tensor } {
    checkRows(queries, this.dimension, undefined, 'MappedBank', 'queries');
    if (queries.sizeOf(0) === 0) throw new InvalidArgumentError('MappedBank: there are no queries');
    if (integerFrom(1, k, 'MappedBank: k') > this.size) {
      throw new InvalidArgumentError(`MappedBank: ${k} neighbours were asked for, and it has ${this.size} rows`);
    }
    positiveInteger(block, 'MappedBank: block');
    return nearestRows(queries.detach(), this.#parts(block, queries.device), k);
  }

  /** Has the system write to the disk what was changed. */
  flush(): void {
    this.#of('writes');
    if (this.#file !== null) fs.fsyncSync(this.#file);
  }

  /** Writes a copy of the whole file, atomically: to go back to with a checkpoint. */
  copyTo(file: string): void {
    this.flush();
    writeFileAtomic(file, (descriptor) => {
      const source = fs.openSync(this.path, 'r');
      try {
        const part = new Uint8Array(BLOCK);
        for (let read = fs.readSync(source, part); read > 0; read = fs.readSync(source, part)) {
          writeFully(descriptor, part.subarray(0, read));
        }
      } finally {
        fs.closeSync(source);
      }
    });
  }

  /** Closes the file; the bank is of no use afterwards. Doing so twice is harmless. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const tensor of this.#columns.values()) tensor.dispose();
    if (this.#file !== null) fs.closeSync(this.#file);
    this.#file = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Flushes, and tells what the file is and how many writes it has had. Its rows stay in the file: {@link MappedBank.copyTo} keeps them. */
  stateDict(): StateDict {
    this.flush();
    return { tensors: new Map(), values: { ...this.#identity(), writes: this.writes } };
  }

  /** @throws InvalidArgumentError if the state is of another bank, or the file has been written to since */
  checkStateDict(state: StateDict): void {
    const what = 'MappedBank: the state dict';
    const values = stateValues(state, this.#identity(), what);
    const writes = stateCount(values, 'writes', what);
    if (writes !== this.writes) {
      throw new InvalidArgumentError(
        `${what} belongs to a file that had had ${writes} writes; '${this.path}' has had ${this.writes}: put back the copy that was made with it`,
      );
    }
  }

  /** Checks that the file is just what it was: there is nothing else to take over. */
  loadStateDict(state: StateDict): void {
    this.checkStateDict(state);
  }

  #read(start: number, count: number): Tensor {
    return scope(() => {
      const part = (name: Column): Tensor => this.#of(name).narrow(0, start, count);
      return decode({ values: part('embeddings'), scales: this.#columns.has('scales') ? part('scales') : null });
    });
  }

  *#parts(block: number, device: Device): Generator<{ start: number; embeddings: Tensor }, void, undefined> {
    for (let start = 0; start < this.size; start += block) {
      yield {
        start,
        embeddings: scope(() => this.#read(start, Math.min(block, this.size - start)).to({ device })),
      };
    }
  }

  #identity(): { size: number; dimension: number; dtype: string } {
    const { size, dimension, dtype } = this;
    return { size, dimension, dtype };
  }

  #of(name: Column): Tensor {
    if (!this.#isOpen) throw new InvalidArgumentError(`MappedBank: '${this.path}' was closed`);
    const column = this.#columns.get(name);
    if (column === undefined) throw new InvalidArgumentError(`MappedBank: it was made without ${name}`);
    return column;
  }

  #gather(
    rows: Tensor,
    block: number,
    device: Device,
    dtype: 'int64' | ReturnType<typeof readDType>,
    shape: readonly number[],
    take: (rows: Tensor) => Tensor,
  ): Tensor {
    this.#of('writes');
    positiveInteger(block, 'MappedBank: block');
    checkPositions(rows, this.size, rows.device, 'MappedBank', { noun: 'rows' });
    return noGrad(() =>
      scope(() => {
        const [sorted, order] = rows.to({ device: 'cpu' }).sort();
        const count = sorted.numel();
        const result = torch.empty([count, ...shape], { dtype });
        for (let start = 0; start < count; start += block) {
          const some = Math.min(block, count - start);
          scope(() => {
            result.indexCopy_(0, order.narrow(0, start, some), take(sorted.narrow(0, start, some)));
          });
        }
        return result.to({ device });
      }),
    );
  }
}

function checkRoom(file: string, bytes: number): void {
  let free: number;
  try {
    const { bavail, bsize } = fs.statfsSync(path.dirname(path.resolve(file)));
    free = bavail * bsize;
  } catch (error) {
    throw new KontrastError(`cannot write '${file}': ${(error as Error).message}`, {
      code: 'FILE_WRITE',
      cause: error,
    });
  }
  if (free < bytes) {
    throw new KontrastError(`cannot write '${file}': it takes ${bytes} bytes, and the disk has ${free} left`, {
      code: 'FILE_WRITE',
    });
  }
}

function checkFormat(file: string, { tensors, metadata }: SafetensorsLayout): void {
  if (metadata.format !== FORMAT) {
    throw new InvalidArgumentError(`MappedBank: '${file}' is no bank; make one with MappedBank.create`);
  }
  if (metadata.version !== VERSION) {
    throw new InvalidArgumentError(
      `MappedBank: '${file}' has version ${metadata.version ?? 'none'} of the format, and this is version ${VERSION}`,
    );
  }
  const of = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const embeddings = of.get('embeddings');
  const size = embeddings?.shape[0] ?? 0;
  const expected: Record<Column, readonly [shape: readonly number[], dtype: string, needed: boolean]> = {
    embeddings: [[size, embeddings?.shape[1] ?? 0], embeddings?.dtype ?? 'float32', true],
    scales: [[size], 'float32', embeddings?.dtype === 'int8'],
    labels: [[size], 'int64', false],
    ids: [[size], 'int64', false],
    writes: [[1], 'int64', true],
  };
  const isSound = COLUMNS.every((name) => {
    const [shape, dtype, needed] = expected[name];
    const tensor = of.get(name);
    return tensor === undefined ? !needed : tensor.shape.join() === shape.join() && tensor.dtype === dtype;
  });
  if (!isSound || size === 0 || tensors.some(({ name }) => !(COLUMNS as readonly string[]).includes(name))) {
    throw new InvalidArgumentError(`MappedBank: '${file}' does not have the columns of a bank`);
  }
  storedDType(embeddings!.dtype, `MappedBank: '${file}': embeddings`);
}

function openForWriting(file: string): number {
  try {
    // An administrator may write to any file; whoever made it read only meant it.
    if ((fs.statSync(file).mode & 0o222) === 0) {
      throw Object.assign(new Error('it is read only'), { syscall: 'open' });
    }
    return fs.openSync(file, 'r+');
  } catch (error) {
    throw new KontrastError(`cannot write '${file}': ${(error as Error).message}`, {
      code: 'FILE_WRITE',
      cause: error,
    });
  }
}
