/**
 * Reading and writing tensors as safetensors files: a plain header and raw bytes, so that a file can be checked
 * completely before any of it is used, and never runs code.
 *
 * Format: https://github.com/huggingface/safetensors (README, "Format").
 */
import { inspect } from 'node:util';
import { openSource, type ByteSource } from './byte-source';
import { InvalidArgumentError } from './errors';
import { contiguousStrides, FileMap, readStorage, tensorOn, writeTensor } from './file-storage';
import { writeFileAtomic, writeFully } from './files';
import { itemSizeOf, planSafetensors, readLayout, type TensorLayout } from './safetensors-layout';
import { scope } from './scope';
import type { Tensor } from './tensor';

/**
 * Writes tensors to a safetensors file, atomically: a reader, or a crash, never sees a part of it.
 *
 * @param path The file; an existing one is replaced.
 * @param tensors By name; any shape, device and layout, any dtype but complex128.
 * @param metadata Text kept beside the tensors.
 * @throws {KontrastError} code `SAFETENSORS` for a dtype that the format lacks, before anything is written.
 */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const byName = tensors instanceof Map ? (tensors as ReadonlyMap<string, Tensor>) : new Map(Object.entries(tensors));
  const { header, layout } = planSafetensors(
    [...byName].map(([name, tensor]) => ({ name, dtype: tensor.dtype, shape: tensor.shape })),
    metadata,
  );
  writeFileAtomic(path, (file) => {
    writeFully(file, header);
    for (const { name, byteLength } of layout.tensors) writeTensor(file, byName.get(name)!, byteLength);
  });
}

/** Options of {@link openSafetensors} and {@link readSafetensors}. */
export interface SafetensorsOptions {
  /**
   * Whether tensors use the file's bytes where they lie, mapped into memory: then they cost nothing until they are used, and their memory
   * is shared with the system's cache of the file. Without, they are read into memory of their own. Default: true for a
   * file, false for bytes in memory, which cannot be mapped.
   *
   * Writing to a mapped tensor copies the page that is written to and leaves the file as it is. While there are tensors on it, the file must not be changed in
   * place: they may see the change, and using one whose bytes were cut off ends the process, as with every memory map. To put
   * another file in its place by renaming, as {@link writeSafetensors} does, is safe, and so is to delete it.
   */
  map?: boolean;
}

/** A safetensors file whose tensors are read one by one. Made by {@link openSafetensors}. */
export class SafetensorsFile {
  /** The tensors that the file holds, by name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorLayout>;
  /** The text beside the tensors; an object without a prototype. */
  readonly metadata: Readonly<Record<string, string>>;

  private readonly map: FileMap | undefined;

  /** @internal */
  constructor(
    private readonly source: ByteSource,
    options: SafetensorsOptions = {},
  ) {
    const { map = true } = options;
    if (map) this.map = new FileMap(source);
    const { tensors, metadata } = readLayout(source);
    this.tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    this.metadata = metadata;
  }

  /**
   * One tensor, on the CPU: mapped, or read into memory, as {@link SafetensorsOptions.map} says. Each call gives a tensor as it is in the
   * file, whatever was written to those given before.
   *
   * @throws {InvalidArgumentError} if the file holds no tensor of this name.
   * @throws {KontrastError} code `FILE_READ` if the file was closed, or changed since it was opened.
   */
  read(name: string): Tensor {
    const layout = this.tensors.get(name);
    if (layout === undefined) {
      const some = [...this.tensors.keys()].slice(0, 5).map((known) => `'${known}'`);
      throw new InvalidArgumentError(
        `${this.source.name} holds no tensor '${name}', but ${this.tensors.size} others: ${some.join(', ')}${
          this.tensors.size > some.length ? ', …' : ''
        }`,
      );
    }
    const { dtype, shape, offset, byteLength } = layout;
    return scope(() => {
      const storage = this.map
        ? this.map.storage(offset, byteLength, itemSizeOf(dtype))
        : readStorage(this.source, offset, byteLength);
      return tensorOn(storage, dtype, shape, contiguousStrides(shape), 0);
    });
  }

  /** Closes the file; the tensors that were given stay. Doing so twice is harmless. */
  close(): void {
    this.map?.close();
    this.source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Opens a safetensors file to read some of its tensors. The whole header is checked now. The tensors are mapped into memory: their bytes
 * are read by the system, page by page, when they are first used. `{ map: false }` reads a tensor's bytes, and no others, when it is asked
 * for; see {@link SafetensorsOptions.map} for when that is the better choice.
 *
 * The file stays open, also when another replaces it under its name, until it is closed:
 *
 * ```ts
 * using file = openSafetensors('model.safetensors');
 * const weight = file.read('encoder.weight');
 * ```
 *
 * @param file The file's path, or its bytes.
 * @throws {KontrastError} code `SAFETENSORS`: names the file and what is wrong with it (cut off, overlapping or missing
 *   bytes, unknown dtype, bad header); code `FILE_READ`: it cannot be read.
 */
export function openSafetensors(file: string | Uint8Array, options: SafetensorsOptions = {}): SafetensorsFile {
  const { map = true } = options;
  if (typeof map !== 'boolean') throw new InvalidArgumentError(`map is true or false, not ${inspect(map)}`);
  const source = openSource(file);
  try {
    return new SafetensorsFile(source, { map });
  } catch (error) {
    source.close();
    throw error;
  }
}

/**
 * All tensors of a safetensors file, on the CPU, mapped into memory unless told otherwise: see {@link SafetensorsOptions.map}. The whole
 * header is checked before the first tensor is made.
 *
 * @param file The file's path, or its bytes.
 * @returns The tensors by name and the file's metadata; both objects have no prototype, so any name is safe.
 * @throws {KontrastError} as {@link openSafetensors}
 */
export function readSafetensors(
  file: string | Uint8Array,
  options: SafetensorsOptions = {},
): {
  tensors: Record<string, Tensor>;
  metadata: Readonly<Record<string, string>>;
} {
  const opened = openSafetensors(file, options);
  try {
    const { metadata } = opened;
    const tensors = scope(() => {
      const read = Object.create(null) as Record<string, Tensor>;
      for (const name of opened.tensors.keys()) read[name] = opened.read(name);
      return read;
    });
    return { tensors, metadata };
  } finally {
    opened.close();
  }
}
