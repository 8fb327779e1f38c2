/** Which operators get a method or a function, and why the others do not. `ops` still reaches every one of them. */
import type { Schema } from './schema';

/**
 * Members of the class `Tensor` that are written by hand, by their camelCase names; they get neither a generated method
 * nor a function.
 */
export const handWrittenMembers = [
  'at',
  'backward',
  'data',
  'detach',
  'device',
  'dispose',
  'dtype',
  'grad',
  'isContiguous',
  'isDisposed',
  'isLeaf',
  'item',
  'ndim',
  'requiresGrad',
  'requiresGrad_',
  'setData',
  'shape',
  'to',
  'toArray',
  'toString',
] as const;

/** Functions of the object `torch` that are written by hand, by their camelCase names. */
export const handWrittenFunctions = ['fromBytes', 'fromTypedArray', 'tensor'] as const;

/** Names of what exists for another operator's sake: derivatives, one back end's kernels, tracing, LibTorch's own tests. */
const internal = [
  /_backward(_|$)/,
  /_jvp$/,
  /^(cudnn|miopen|mkldnn|mps|fbgemm|sym)_/,
  /^linalg__/,
  /_(overrideable|cachemask|forward)$/,
  /^(lift|lift_fresh|lift_fresh_copy|record_stream|output_nr|infinitely_differentiable_gelu_backward)$/,
  // `size` takes a dimension only; `Tensor` has `shape` and `sizeOf`.
  /^size$/,
  /^(get_gradients|is_distributed|is_vulkan_available|to_mkldnn|copy_sparse_to_sparse_?|qscheme)$/,
];

/** Whether the operator is one for users. */
export function isPublic(schema: Schema): boolean {
  return (
    schema.namespace === 'aten' && !schema.name.startsWith('_') && !internal.some((rule) => rule.test(schema.name))
  );
}

/** Whether the overload is one for users: not the form that writes to a given output, nor one for LibTorch's own compiler. */
export function isUsable(schema: Schema): boolean {
  const writesToKeyword = schema.arguments.some((argument) => argument.keywordOnly && argument.written);
  return !writesToKeyword && !/hacked_twin|_out$|^out$|^dimname|^names/.test(schema.overload);
}

/** Whether the operator is called on a tensor. */
export function isMethod(schema: Schema): boolean {
  const first = schema.arguments[0];
  return first !== undefined && first.name === 'self' && first.type === 'Tensor' && !first.keywordOnly;
}
