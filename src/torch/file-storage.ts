/** Between files and the memory of tensors. */
import { readBytes, type ByteSource } from './byte-source';
import { writeFully } from './files';
import { torch } from './functions';
import { scope } from './scope';
import type { Tensor } from './tensor';
import type { DType } from './types';

/** More bytes than this are read and written part by part, so that a large tensor is not in memory twice. */
const PART = 1 << 24;

/**
 * The `byteLength` bytes of a file from `position` on, as a flat tensor of uint8 on the CPU.
 *
 * This is the one place where a file's bytes become a tensor's memory. Node has no memory map without a native dependency, so they
 * are read into memory of the tensor's own.
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
