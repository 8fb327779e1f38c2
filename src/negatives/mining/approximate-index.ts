import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { ScoreSimilarity } from '../../contrast/contrast';
import { functional } from '../../nn';
import { positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, KontrastError, noGrad, scope, torch, type JsonObject, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { writeFileAtomic, writeFully } from '../../torch/files';
import { jsonObject, type StateDict } from '../../torch/state';
import { checkTensor } from './miner';
import { optionalPackage, optionalPackagePath } from './optional-package';
import {
  checkDocuments,
  checkSearch,
  checkSimilarity,
  savedDocuments,
  type DocumentOptions,
  type FoundDocuments,
  type SearchIndex,
} from './search-index';

/** What an {@link ApproximateIndex} is made from. */
export interface ApproximateIndexOptions {
  /** D. */
  dimension: number;
  /** Default: `'cosine'`. */
  similarity?: ScoreSimilarity;
  /** What documents are held in. bfloat16 takes half the memory and is faster; its scores have three digits. Default: float32. */
  dtype?: 'float32' | 'bfloat16';
  /** Neighbours that a document has in the graph: more take more memory and find more. Default: 16. */
  neighbours?: number;
  /** Documents that are looked at to find the neighbours of a new one: more make a better graph, in more time. Default: 128. */
  buildEffort?: number;
  /** Documents that are looked at for a query: more find more, in more time. Default: 64. */
  searchEffort?: number;
  /** Threads that fill it. With more than one, the graph is another each time. Default: 1. */
  threads?: number;
}

/** How a new index is filled beside the one in use. */
export interface PrepareOptions extends DocumentOptions {
  /** In a thread of its own, or here, a slice of documents at a turn of the event loop. Default: `'worker'`. */
  background?: 'worker' | 'slices';
}

/** The part of usearch that is used. */
interface USearchIndex {
  add(keys: BigUint64Array, vectors: Float32Array, threads: number): void;
  search(vectors: Float32Array, count: number, threads: number): { keys: BigUint64Array; distances: Float32Array };
  contains(keys: BigUint64Array): boolean[];
  remove(keys: BigUint64Array): number[];
  size(): number;
  save(path: string): void;
  load(path: string): void;
}
interface USearch {
  Index: new (options: Record<string, unknown>) => USearchIndex;
}

/** Documents as the library takes them. */
interface Rows {
  /** Of shared memory, so that a thread reads them where they are. */
  vectors: Float32Array;
  keys: BigUint64Array;
}

/** A new index under way. */
interface Preparation {
  rows: Rows;
  background: 'worker' | 'slices';
  isCancelled: boolean;
  worker: Worker | undefined;
  whole: Promise<USearchIndex>;
}

const PACKAGE = 'usearch';
const RANGE = '2';
const MAGIC = 'kontrast index';
const VERSION = 1;
/** Bytes of a file that are read at once. */
const BLOCK = 1 << 24;
/** Documents that a thread adds at once, and documents that are added at a turn of the event loop. */
const SLICES = { worker: 4096, slices: 32 } as const;

/**
 * An index that finds most of the nearest documents in a time that hardly grows with their number: a graph of neighbours (Malkov and Yashunin 2018,
 * "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs") by the optional package usearch,
 * which was chosen by measurement: see `bench/ann-index`. `npm install usearch` brings it.
 *
 * Scores are those of the engine: the cosine, the dot product, or minus the squared distance. A graph under the dot product finds less where lengths
 * differ much. Ids are int64, at least 0. Documents are held on the CPU, in float32 or bfloat16; queries may be on any device, where the
 * results are then as well.
 *
 * While training goes on, {@link ApproximateIndex.refresh} (or `prepare` and `swap`) fills a new index in a thread of its own, and until it is
 * whole the old one is searched.
 *
 * What is searched follows from the calls alone if `threads` is 1. A state has the graph itself, and finds the same; documents that are added to an index
 * after it was loaded may find other neighbours than without. A new index under way is part of the state: its documents are, and it is started again.
 *
 * ```ts
 * const index = new ApproximateIndex({ dimension: 128 });
 * index.build(embeddings);
 * const { ids, scores } = index.search(queries, 100);
 * ```
 */
export class ApproximateIndex implements SearchIndex {
  readonly dimension: number;
  readonly similarity: ScoreSimilarity;
  readonly #settings: JsonObject;
  readonly #searchEffort: number;
  readonly #threads: number;
  readonly #library: USearch;
  #index: USearchIndex;
  #preparation: Preparation | undefined;

  /**
   * @throws KontrastError code `MISSING_PACKAGE` if usearch is not installed
   * @throws InvalidArgumentError naming the option that does not fit
   */
  constructor(options: ApproximateIndexOptions) {
    const what = 'ApproximateIndex';
    const { similarity = 'cosine', dtype = 'float32', neighbours = 16, buildEffort = 128 } = options;
    this.dimension = positiveInteger(options.dimension, `${what}: dimension`);
    this.similarity = checkSimilarity(similarity, what);
    if (!['float32', 'bfloat16'].includes(dtype)) {
      throw new InvalidArgumentError(`${what}: dtype must be 'float32' or 'bfloat16', found '${dtype}'`);
    }
    this.#settings = {
      dimension: this.dimension,
      similarity,
      dtype,
      neighbours: positiveInteger(neighbours, `${what}: neighbours`),
      buildEffort: positiveInteger(buildEffort, `${what}: buildEffort`),
    };
    this.#searchEffort = positiveInteger(options.searchEffort ?? 64, `${what}: searchEffort`);
    this.#threads = positiveInteger(options.threads ?? 1, `${what}: threads`);
    this.#library = optionalPackage(PACKAGE, RANGE, what) as USearch;
    this.#index = this.#empty();
  }

  get size(): number {
    return this.#index.size();
  }

  get isPreparing(): boolean {
    return this.#preparation !== undefined;
  }

  /** @throws InvalidArgumentError if queries do not fit */
  search(queries: Tensor, count: number): FoundDocuments {
    checkSearch(queries, count, this.dimension, 'ApproximateIndex');
    return withoutAutocast(queries, () =>
      noGrad(() =>
        scope(() => {
          const { device } = queries;
          const rows = queries.sizeOf(0);
          // The library gives a single query's results in another form.
          const several = rows === 1 ? queries.expand([2, this.dimension]) : queries;
          const { keys, distances } = this.#index.search(this.#vectors(several), count, this.#threads);
          const shape = [several.sizeOf(0), count];
          const found = torch.fromTypedArray(distances, shape).narrow(0, 0, rows);
          const ids = torch.fromTypedArray(new BigInt64Array(keys.buffer), shape).narrow(0, 0, rows);
          // Places without a document have no distance.
          const none = found.isnan();
          const scores = this.similarity === 'euclidean' ? found.neg() : found.neg().add_(1);
          return {
            scores: scores.maskedFill(none, -Infinity).to({ device }),
            ids: ids.maskedFill(none, -1).to({ device }),
          };
        }),
      ),
    );
  }

  build(embeddings: Tensor, options: DocumentOptions = {}): void {
    const rows = this.#rows(embeddings, options);
    const index = this.#empty();
    index.add(rows.keys, rows.vectors.slice(), this.#threads);
    this.#index = index;
  }

  /**
   * Adds documents to the index in use.
   *
   * @throws InvalidArgumentError if they do not fit, or one's id is there already, before anything changes
   */
  add(embeddings: Tensor, options: DocumentOptions): void {
    const { keys, vectors } = this.#rows(embeddings, options);
    const there = this.#index.contains(keys).indexOf(true);
    if (there >= 0) throw new InvalidArgumentError(`ApproximateIndex: document ${keys[there]} is there already`);
    this.#index.add(keys, vectors.slice(), this.#threads);
  }

  /**
   * Takes documents out of the index in use.
   *
   * @param ids int64 [K]
   * @returns how many were there
   */
  remove(ids: Tensor): number {
    checkTensor(ids, [ids.sizeOf(0)], 'int64', 'ApproximateIndex: ids');
    const keys = scope(
      () => new BigUint64Array((ids.to({ device: 'cpu' }).dataSync() as BigInt64Array).slice().buffer),
    );
    return this.#index.remove(keys).reduce((sum, count) => sum + count, 0);
  }

  /**
   * Starts to fill a new index beside the one in use, in place of one that was started before. Documents are copied at once; what is added to or
   * removed from the index in use does not reach it.
   *
   * @throws InvalidArgumentError if they do not fit, before anything changes
   */
  prepare(embeddings: Tensor, options: PrepareOptions = {}): void {
    const { background = 'worker' } = options;
    if (!['worker', 'slices'].includes(background)) {
      throw new InvalidArgumentError(
        `ApproximateIndex: background must be 'worker' or 'slices', found '${background}'`,
      );
    }
    const rows = this.#rows(embeddings, options);
    this.cancel();
    this.#start(rows, background);
  }

  async swap(): Promise<void> {
    const preparation = this.#preparation;
    if (preparation === undefined) return;
    // A thread that is waited for keeps the process alive.
    preparation.worker?.ref();
    const index = await preparation.whole.catch((error: unknown) => {
      // A thread that was ended on purpose ends with a code too.
      if (this.#preparation === preparation) throw error;
      return undefined;
    });
    if (index === undefined || this.#preparation !== preparation) return;
    this.#index = index;
    this.#preparation = undefined;
  }

  /** `prepare` and `swap`: resolves when the new index is in use, or another one was started after it. */
  async refresh(embeddings: Tensor, options: PrepareOptions = {}): Promise<void> {
    this.prepare(embeddings, options);
    await this.swap();
  }

  /**
   * Writes the index in use to a file, atomically. It is the library's own format with settings and a checksum behind it.
   *
   * @throws KontrastError code `FILE_WRITE` if the system refuses
   */
  save(file: string): void {
    withTemporary((temporary) => {
      this.#index.save(temporary);
      writeFileAtomic(file, (descriptor) => {
        const hash = createHash('sha256');
        for (const block of blocksOf(temporary)) {
          hash.update(block);
          writeFully(descriptor, block);
        }
        writeFully(descriptor, trailer(this.#settings, this.size, fs.statSync(temporary).size, hash.digest('hex')));
      });
    });
  }

  /**
   * Takes over an index that {@link ApproximateIndex.save} wrote, of the same settings.
   *
   * @throws KontrastError code `FILE_READ` if it cannot be read, is cut off or damaged
   * @throws InvalidArgumentError if it is no index, or one of other settings; nothing has changed then
   */
  load(file: string): void {
    let about: Trailer;
    try {
      about = readTrailer(file);
    } catch (error) {
      if (error instanceof KontrastError) throw error;
      throw new KontrastError(`cannot read '${file}': ${(error as Error).message}`, {
        code: 'FILE_READ',
        cause: error,
      });
    }
    this.#checkSettings(about.settings, `ApproximateIndex: '${file}'`);
    const index = this.#empty();
    // What stands behind its own bytes does not matter to the library.
    index.load(file);
    this.#index = index;
  }

  /** The index in use as bytes, and the documents of one under way. */
  stateDict(): StateDict {
    const bytes = withTemporary((temporary) => {
      this.#index.save(temporary);
      return fs.readFileSync(temporary);
    });
    const tensors = new Map([['index', torch.fromTypedArray(new Uint8Array(bytes))]]);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const preparation = this.#preparation;
    if (preparation !== undefined) {
      const { vectors, keys } = preparation.rows;
      tensors.set('prepared.embeddings', torch.fromTypedArray(vectors.slice(), [keys.length, this.dimension]));
      tensors.set('prepared.ids', torch.fromTypedArray(new BigInt64Array(keys.slice().buffer)));
    }
    const background = preparation?.background ?? null;
    return { tensors, values: { ...this.#settings, sha256, background } };
  }

  checkStateDict(state: StateDict): void {
    this.#checked(state);
  }

  loadStateDict(state: StateDict): void {
    const { bytes, prepared, background } = this.#checked(state);
    const index = this.#empty();
    withTemporary((temporary) => {
      fs.writeFileSync(temporary, bytes);
      index.load(temporary);
    });
    this.cancel();
    this.#index = index;
    if (prepared !== undefined) this.#start(prepared, background);
  }

  /** Stops a new index that is under way; the one in use stays. Who waits for it goes on. */
  cancel(): void {
    if (this.#preparation === undefined) return;
    this.#preparation.isCancelled = true;
    void this.#preparation.worker?.terminate();
    this.#preparation = undefined;
  }

  #checked(state: StateDict): { bytes: Uint8Array; prepared: Rows | undefined; background: 'worker' | 'slices' } {
    const what = 'ApproximateIndex: the state dict';
    const values = jsonObject(state.values, what);
    this.#checkSettings(values, what);
    const saved = state.tensors.get('index');
    if (saved?.dtype !== 'uint8' || saved.ndim !== 1) {
      throw new InvalidArgumentError(`${what} must hold 'index', uint8 [bytes]`);
    }
    const bytes = scope(() => Uint8Array.from(saved.to({ device: 'cpu' }).dataSync() as Uint8Array));
    // The library ends the process when it loads what is damaged.
    if (createHash('sha256').update(bytes).digest('hex') !== values['sha256']) {
      throw new InvalidArgumentError(`${what}: 'index' does not have the checksum that was saved with it`);
    }
    const documents = savedDocuments(state, 'prepared', what);
    const prepared = documents && this.#rows(documents.embeddings, documents, false);
    return { bytes, prepared, background: values['background'] === 'slices' ? 'slices' : 'worker' };
  }

  #checkSettings(found: JsonObject, what: string): void {
    for (const [name, value] of Object.entries(this.#settings)) {
      if (found[name] !== value) {
        throw new InvalidArgumentError(
          `${what} has ${name} ${JSON.stringify(found[name]) ?? 'none'}, this index ${JSON.stringify(value)}`,
        );
      }
    }
  }

  #libraryOptions(): Record<string, unknown> {
    const { dtype, neighbours, buildEffort } = this.#settings;
    return {
      dimensions: this.dimension,
      metric: this.similarity === 'euclidean' ? 'l2sq' : 'ip',
      quantization: dtype === 'float32' ? 'f32' : 'bf16',
      connectivity: neighbours,
      expansion_add: buildEffort,
      expansion_search: this.#searchEffort,
      multi: false,
    };
  }

  #empty(): USearchIndex {
    return new this.#library.Index(this.#libraryOptions());
  }

  /** Embeddings as float32 numbers, of length one for the cosine. */
  #vectors(embeddings: Tensor, normalize = this.similarity === 'cosine'): Float32Array {
    return scope(() => {
      const wide = embeddings.detach().to({ dtype: embeddings.dtype === 'float64' ? 'float64' : 'float32' });
      const ready = normalize ? functional.normalize(wide) : wide;
      return ready.to({ dtype: 'float32', device: 'cpu' }).contiguous().dataSync() as Float32Array;
    });
  }

  #rows(embeddings: Tensor, options: DocumentOptions, normalize?: boolean): Rows {
    return withoutAutocast(embeddings, () =>
      noGrad(() =>
        scope(() => {
          const ids = checkDocuments(embeddings, options, this.dimension, 'ApproximateIndex');
          const keys = new BigUint64Array((ids.to({ device: 'cpu' }).dataSync() as BigInt64Array).slice().buffer);
          const numbers = this.#vectors(embeddings, normalize);
          const vectors = new Float32Array(new SharedArrayBuffer(numbers.byteLength));
          vectors.set(numbers);
          return { vectors, keys };
        }),
      ),
    );
  }

  #start(rows: Rows, background: 'worker' | 'slices'): void {
    const preparation = { rows, background, isCancelled: false, worker: undefined } as Omit<Preparation, 'whole'>;
    const whole = background === 'slices' ? this.#fillHere(preparation) : this.#fillInThread(preparation);
    // Whoever swaps gets the error; nobody may.
    whole.catch(() => undefined);
    this.#preparation = Object.assign(preparation, { whole });
  }

  async #fillHere(preparation: Omit<Preparation, 'whole'>): Promise<USearchIndex> {
    const { vectors, keys } = preparation.rows;
    const index = this.#empty();
    for (let from = 0; from < keys.length && !preparation.isCancelled; from += SLICES.slices) {
      await setImmediate();
      const to = from + SLICES.slices;
      index.add(keys.slice(from, to), vectors.slice(from * this.dimension, to * this.dimension), this.#threads);
    }
    return index;
  }

  #fillInThread(preparation: Omit<Preparation, 'whole'>): Promise<USearchIndex> {
    const folder = fs.mkdtempSync(join(tmpdir(), 'kontrast-index-'));
    const file = join(folder, 'index');
    const worker = new Worker(FILL, {
      eval: true,
      execArgv: [],
      workerData: {
        ...preparation.rows,
        path: optionalPackagePath(PACKAGE),
        options: this.#libraryOptions(),
        threads: this.#threads,
        slice: SLICES.worker,
        file,
      },
    });
    preparation.worker = worker;
    worker.unref();
    return new Promise<USearchIndex>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', (code) => {
        try {
          if (code !== 0 || !fs.existsSync(file)) {
            throw new KontrastError(`ApproximateIndex: the thread that fills the new index ended with code ${code}`, {
              code: 'THREAD',
            });
          }
          const index = this.#empty();
          index.load(file);
          resolve(index);
        } catch (error) {
          reject(error as Error);
        } finally {
          fs.rmSync(folder, { recursive: true, force: true });
        }
      });
    });
  }
}

/** What a thread does: fills an index and writes it to a file, which is how it comes back. */
const FILL = `
const { workerData } = require('node:worker_threads');
const { vectors, keys, path, options, threads, slice, file } = workerData;
const { Index } = require(path);
const index = new Index(options);
for (let from = 0; from < keys.length; from += slice) {
  const to = from + slice;
  index.add(keys.slice(from, to), vectors.slice(from * options.dimensions, to * options.dimensions), threads);
}
index.save(file);
`;

/** What stands behind the library's bytes in a file. */
interface Trailer {
  settings: JsonObject;
}

function trailer(settings: JsonObject, size: number, bytes: number, sha256: string): Uint8Array {
  const text = Buffer.from(JSON.stringify({ format: MAGIC, version: VERSION, settings, size, bytes, sha256 }));
  const end = Buffer.alloc(8 + MAGIC.length);
  end.writeBigUInt64LE(BigInt(text.byteLength));
  end.write(MAGIC, 8, 'latin1');
  return Buffer.concat([text, end]);
}

function readTrailer(file: string): Trailer {
  const damaged = (why: string) => new KontrastError(`'${file}' ${why}; save the index again`, { code: 'FILE_READ' });
  const descriptor = fs.openSync(file, 'r');
  try {
    const { size } = fs.fstatSync(descriptor);
    const read = (from: number, count: number): Buffer => {
      const part = Buffer.alloc(count);
      fs.readSync(descriptor, part, 0, count, from);
      return part;
    };
    const endLength = 8 + MAGIC.length;
    const end = size < endLength ? undefined : read(size - endLength, endLength);
    if (end?.toString('latin1', 8) !== MAGIC) throw damaged('is no index, or is cut off');
    const length = Number(end.readBigUInt64LE());
    if (!(length > 0 && length <= size - endLength)) throw damaged('is damaged');
    let about: { version: number; settings: JsonObject; bytes: number; sha256: string };
    try {
      about = JSON.parse(read(size - endLength - length, length).toString()) as typeof about;
    } catch {
      throw damaged('is damaged');
    }
    if (about.version !== VERSION) {
      throw new InvalidArgumentError(
        `ApproximateIndex: '${file}' has version ${about.version} of the format, this is version ${VERSION}`,
      );
    }
    const hash = createHash('sha256');
    for (const block of blocksOf(file, about.bytes)) hash.update(block);
    if (about.bytes !== size - endLength - length || hash.digest('hex') !== about.sha256) throw damaged('is damaged');
    return about;
  } finally {
    fs.closeSync(descriptor);
  }
}

function* blocksOf(file: string, end = Infinity): globalThis.Generator<Uint8Array, void, undefined> {
  const descriptor = fs.openSync(file, 'r');
  try {
    const block = new Uint8Array(BLOCK);
    for (let at = 0; at < end;) {
      const count = fs.readSync(descriptor, block, 0, Math.min(BLOCK, end - at), at);
      if (count === 0) return;
      yield block.subarray(0, count);
      at += count;
    }
  } finally {
    fs.closeSync(descriptor);
  }
}

function withTemporary<T>(use: (file: string) => T): T {
  const folder = fs.mkdtempSync(join(tmpdir(), 'kontrast-index-'));
  try {
    return use(join(folder, 'index'));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
