/**
 * The plain types that operators take and give, and the tables behind them. String values (`'float32'`, `'channels_last'`)
 * are PyTorch's own spellings; only identifiers are in camelCase.
 */

/**
 * The names of the element types. The index of a name is the value of `c10::ScalarType`, so the table also translates
 * the numbers that LibTorch uses.
 */
export const dtypeNames = [
  'uint8',
  'int8',
  'int16',
  'int32',
  'int64',
  'float16',
  'float32',
  'float64',
  'complex32',
  'complex64',
  'complex128',
  'bool',
  'qint8',
  'quint8',
  'qint32',
  'bfloat16',
  'quint4x2',
  'quint2x4',
  'bits1x8',
  'bits2x4',
  'bits4x2',
  'bits8',
  'bits16',
  'float8_e5m2',
  'float8_e4m3fn',
  'float8_e5m2fnuz',
  'float8_e4m3fnuz',
  'uint16',
  'uint32',
  'uint64',
  'uint1',
  'uint2',
  'uint3',
  'uint4',
  'uint5',
  'uint6',
  'uint7',
  'int1',
  'int2',
  'int3',
  'int4',
  'int5',
  'int6',
  'int7',
  'float8_e8m0fnu',
  'float4_e2m1fn_x2',
] as const;

/** The type of a tensor's elements, by PyTorch's name. */
export type DType = (typeof dtypeNames)[number];

/** The names of the layouts; the index of a name is the value of `c10::Layout`. */
export const layoutNames = [
  'strided',
  'sparse_coo',
  'sparse_csr',
  'mkldnn',
  'sparse_csc',
  'sparse_bsr',
  'sparse_bsc',
  'jagged',
] as const;

/** How a tensor's elements are laid out: dense with strides, or one of the sparse forms. */
export type Layout = (typeof layoutNames)[number];

/** The names of the memory formats; the index of a name is the value of `c10::MemoryFormat`. */
export const memoryFormatNames = ['contiguous_format', 'preserve_format', 'channels_last', 'channels_last_3d'] as const;

/** The order of the dimensions in memory. `'channels_last'` is N H W C for a tensor whose shape is [N, C, H, W]. */
export type MemoryFormat = (typeof memoryFormatNames)[number];

/** Where a tensor lives. `'cuda'` is the current CUDA device, `'cuda:1'` the second one; `'meta'` has shapes and no data. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}` | 'meta';

/** A complex number. */
export interface Complex {
  readonly re: number;
  readonly im: number;
}

/** One number, where an operator takes any kind of it. */
export type Scalar = number | bigint | boolean | Complex;

/** The arrays whose memory a tensor can be made from. `Uint16Array` holds the raw bits of float16 and bfloat16. */
export type TypedArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

/** A tensor's elements as nested arrays, one level a dimension; a single element for a tensor of no dimensions. */
export type NestedArray = number | bigint | boolean | readonly NestedArray[];

/**
 * A mark that tensors carry and option objects refuse. Without it a tensor would pass as the options of any operator that
 * takes a `dtype`, because it has a property of that name. It exists only for the type checker.
 */
export declare const tensorMark: unique symbol;

/** The option that many operators have: the element type of the result, or of the computation where LibTorch says so. */
export interface DTypeOption {
  /** Element type. Default: the operator's own choice, usually the input's. */
  dtype?: DType | null;
  /** @internal */
  readonly [tensorMark]?: never;
}

/** What operators that make a new tensor take. */
export interface TensorOptions extends DTypeOption {
  /** Default: `'strided'`, or the given tensor's. */
  layout?: Layout | null;
  /** Default: `'cpu'`, or the given tensor's. */
  device?: Device | null;
  /** Page-locked memory, for quick copies to a CUDA device. Default: false. */
  pinMemory?: boolean | null;
  /** Whether gradients are to flow to the new tensor. Default: false. */
  requiresGrad?: boolean;
}
