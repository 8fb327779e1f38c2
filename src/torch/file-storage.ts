/** Between files and the memory of tensors. */
import { readBytes, type ByteSource } from './byte-source';
import { writeFully } from './files';
import { wrap } from './frame';
import { torch } from './functions';
import { native } from './native';
import { keep, scope } from './scope';
import type { Tensor } from './tensor';
import type { DType } from './types';

/** More bytes than this are read and written part by part, so that a large tensor is not in memory twice. */
const PART = 1 << 24;

/** Less than a page is read: a tensor so small is not worth keeping a map for. */
const LEAST_MAPPED = 4096;

/**
 * The `byteLength` bytes of a file from `position` on, read into a flat tensor of uint8 on the CPU.
 *
 * @param visit Called with the bytes, part after part, as they pass; a part is overwritten by the next one.
 */
export function readStorage(
  source: ByteSource,
  position: number,
  byteLength: number,
  visit?: (part: Uint8Array) => void,
): Tensor {
  if (byteLength <= PART) {
    const bytes = readBytes(source, position, byteLength);
    visit?.(bytes);
    return torch.fromBytes(bytes, [byteLength], 'uint8');
  }
  return scope(() => {
    const storage = torch.empty([byteLength], { dtype: 'uint8' });
    const part = new Uint8Array(PART);
    const window = torch.fromTypedArray(part, [PART], { copy: false });
    for (let done = 0; done < byteLength; done += PART) {
      const length = Math.min(PART, byteLength - done);
      const bytes = part.subarray(0, length);
      source.fill(bytes, position + done);
      visit?.(bytes);
      scope(() => void storage.narrow(0, done, length).copy_(window.narrow(0, 0, length)));
    }
    return storage;
  });
}

/**
 * A file as memory: its parts become tensors without being read, and the system brings in each page when it is first touched. The map
 * is private, so what is written to a tensor does not reach the file. It is made when it is first needed, and goes with the last of its parts.
 */
export class FileMap {
  private whole: Tensor | null = null;
  /** Where the parts that were given start: a second tensor on one of them would see what is written to the first. */
  private readonly given = new Set<number>();

  constructor(private readonly source: ByteSource) {}

  /**
   * The `byteLength` bytes from `position` on as a flat tensor of uint8 on the CPU, with a storage of its own. Parts do not overlap, save
   * that the same one may be asked for again. What is small or not aligned is read, and so is everything where the system maps no files.
   *
   * @param alignment The elements' size: the position must be a multiple of it.
   * @throws {KontrastError} as {@link readStorage}
   */
  storage(position: number, byteLength: number, alignment: number): Tensor {
    if (byteLength >= LEAST_MAPPED && position % alignment === 0) {
      const file = this.source.openFile();
      if (this.given.has(position)) this.close();
      if (file !== undefined && this.map(file)) {
        this.given.add(position);
        return wrap(native.mappedPart(this.whole!.handle, position, byteLength)) as Tensor;
      }
    }
    return readStorage(this.source, position, byteLength);
  }

  /** Whether the file is mapped now. */
  private map(file: number): boolean {
    if (this.whole === null) {
      const handle = native.mapFile(file, this.source.size);
      if (handle === 0) return false;
      this.whole = keep(wrap(handle) as Tensor);
    }
    return true;
  }

  /** Lets go of the map; parts that were given stay. */
  close(): void {
    this.whole?.dispose();
    this.whole = null;
    this.given.clear();
  }
}

/**
 * Writes a tensor's elements in row-major order at the file's current position.
 *
 * @param byteLength How many bytes they take.
 * @param part How many of them are copied out of LibTorch's memory at a time, about.
 */
export function writeTensor(file: number, tensor: Tensor, byteLength: number, part = PART): void {
  if (byteLength <= part) {
    writeFully(file, tensor.bytesSync());
    return;
  }
  scope(() => {
    const flat = tensor.detach().contiguous().view([-1]);
    const count = flat.numel();
    const step = Math.max(1, Math.floor((part * count) / byteLength));
    for (let done = 0; done < count; done += step) {
      scope(() => writeFully(file, flat.narrow(0, done, Math.min(step, count - done)).bytesSync()));
    }
  });
}

/**
 * A tensor of any dtype on the memory of `storage`, which lives as long as any tensor on it.
 *
 * @param strides In elements of `dtype`. The caller has checked that every element lies in the storage: LibTorch would otherwise
 *   lengthen it.
 * @param offset Of the first element, in elements of `dtype`.
 */
export function tensorOn(
  storage: Tensor,
  dtype: DType,
  shape: readonly number[],
  strides: readonly number[],
  offset: number,
): Tensor {
  const tensor = torch.empty([0], { dtype });
  tensor.set_(storage, offset, shape, strides).dispose();
  return tensor;
}

/** The strides of elements that lie in row-major order. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let dimension = shape.length - 1; dimension >= 0; dimension--) {
    strides[dimension] = step;
    // As LibTorch counts: an empty dimension counts as one, so that no stride is 0.
    step *= Math.max(1, shape[dimension]!);
  }
  return strides;
}
