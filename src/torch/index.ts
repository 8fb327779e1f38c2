/** Tensors, operators, autograd and random numbers: LibTorch itself. */
export {
  autocast,
  enableGrad,
  grad,
  inferenceMode,
  isGradEnabled,
  isInferenceMode,
  noGrad,
  type AutocastOptions,
  type GradOptions,
} from './autograd';
export { cuda, type CudaDevice, type CudaDeviceProperties, type CudaMemory } from './cuda';
export { CudaGraph, type CudaGraphOptions } from './cuda-graph';
export {
  cudnn,
  getFloat32MatmulPrecision,
  isDeterministic,
  setDeterministic,
  setFloat32MatmulPrecision,
  type DeterministicOptions,
  type Float32MatmulPrecision,
} from './determinism';
export {
  getInteropThreads,
  getThreads,
  libtorchBuild,
  memory,
  resetPeakMemory,
  setInteropThreads,
  setThreads,
  synchronize,
  type LibTorchBuild,
  type MemoryUse,
} from './devices';
export {
  DisposedError,
  DistributedError,
  InvalidArgumentError,
  KontrastError,
  LinAlgError,
  OutOfMemoryError,
  TorchError,
  TorchIndexError,
  TorchNotImplementedError,
  TorchTypeError,
  TorchValueError,
  type KontrastErrorOptions,
} from './errors';
export {
  torch,
  type FromData,
  type FromDataOptions,
  type FromTypedArrayOptions,
  type Torch,
  type TorchTools,
} from './functions';
export { setPrintOptions, type PrintChanges, type PrintOptions } from './format';
export { slice, Slice, type IndexItem, type IndexValue, type IntegerArray } from './indexing';
export { TorchObject } from './object-handle';
export type { AsyncFunctions } from './async-functions';
export { defineFunction, FunctionContext, type FunctionDefinition } from './custom-function';
export { gradcheck, GradcheckError, gradgradcheck, type GradcheckOptions } from './gradcheck';
export type { GradientHook, Hook } from './hooks';
export { hasOperator, operatorSchemas, ops, type OperatorNamespace, type RawOperator } from './operators';
export { defaultGenerator, Generator, manualSeed, type GeneratorOptions } from './random';
export {
  readPyTorchFile,
  readPyTorchStateDict,
  type PyTorchFileOptions,
  type PyTorchStateDictOptions,
  type PyTorchValue,
} from './pytorch-file';
export {
  openSafetensors,
  readSafetensors,
  SafetensorsFile,
  writeSafetensors,
  type SafetensorsOptions,
} from './safetensors';
export { type SafetensorsDType, type TensorLayout } from './safetensors-layout';
export { debugLiveTensors, traceTensors, type LiveTensor } from './live-tensors';
export { receiveTensor, shareTensor, withdrawTensor, type ShareOptions, type TensorToken } from './sharing';
export { dispose, keep, scope, Scope } from './scope';
export { ScriptModule, type LoadScriptOptions } from './script-module';
export type { ScriptArgument, ScriptResult } from './script-values';
export { joinStates, partOfState, type JsonObject, type JsonValue, type StateDict, type Stateful } from './state';
export { isTensor, keepNew, Tensor, type BackwardOptions, type ToOptions } from './tensor';
export { Event, Stream, synchronizeAsync, withStream, type EventOptions, type StreamOptions } from './streams';
export type {
  Complex,
  DType,
  DTypeOption,
  Device,
  Layout,
  MemoryFormat,
  NestedArray,
  Scalar,
  TensorOptions,
  TypedArray,
} from './types';
