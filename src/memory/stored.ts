/** How embeddings are held: as they are, in a shorter floating-point type, or as int8 with a scale for each. */
import { InvalidArgumentError, torch, type Device, type DType, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';

/**
 * The type that a memory holds embeddings in. `'int8'` keeps a float32 scale beside each embedding: value = integer · scale with
 * scale = max|x| / 127, so that the error of an element is at most half a scale. It takes (D + 4) bytes an embedding, a quarter of float32, and
 * is widened to float32 when it is read.
 */
export type StoredDType = 'float32' | 'float64' | 'bfloat16' | 'float16' | 'int8';

const KNOWN: readonly string[] = ['float32', 'float64', 'bfloat16', 'float16', 'int8'] satisfies StoredDType[];

/** The type, if embeddings can be stored in it. @throws InvalidArgumentError naming `what` */
export function storedDType(dtype: DType, what: string): StoredDType {
  if (!KNOWN.includes(dtype)) {
    throw new InvalidArgumentError(`${what} need int8 or a floating-point dtype, found ${dtype}`);
  }
  return dtype as StoredDType;
}

/** The type that embeddings are read in. */
export function readDType(dtype: StoredDType): Exclude<StoredDType, 'int8'> {
  return dtype === 'int8' ? 'float32' : dtype;
}

/** Embeddings [N, D] as they are stored: the values, and for int8 their scales [N]. */
export interface Encoded {
  values: Tensor;
  scales: Tensor | null;
}

/** Embeddings [N, D] made ready to be stored. */
export function encode(embeddings: Tensor, dtype: StoredDType): Encoded {
  const x = embeddings.detach();
  if (dtype !== 'int8') return { values: x.to({ dtype }), scales: null };
  return withoutAutocast(x, () => {
    const wide = x.to({ dtype: 'float32' });
    const scales = wide.abs().amax([1]).div(127);
    // 0 / 0 where all is zero; what is no number stays so by its scale. A cast of NaN is anything.
    const values = wide.div(scales.unsqueeze(1)).round().clamp(-127, 127).nanToNum(0).to({ dtype: 'int8' });
    return { values, scales };
  });
}

/** Stored embeddings [N, D] as they are read: the very tensor, unless they are int8. */
export function decode({ values, scales }: Encoded): Tensor {
  return scales === null ? values : values.to({ dtype: 'float32' }).mul(scales.unsqueeze(1));
}

/** Room for `count` embeddings, zeros. */
export function emptyStore(count: number, dimension: number, dtype: StoredDType, device: Device): Encoded {
  return {
    values: torch.zeros([count, dimension], { dtype, device }),
    scales: dtype === 'int8' ? torch.zeros([count], { dtype: 'float32', device }) : null,
  };
}
