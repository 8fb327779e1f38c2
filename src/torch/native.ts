/**
 * The addon's functions, typed. This is the one file that names them and the one place where the addon's untyped exports
 * become typed.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { findAddon, type Addon } from '../libtorch/addon';
import { locateLibTorch, type LibTorch } from '../libtorch/locate';
import { ensureTried } from '../libtorch/trial';
import { errorFromNative, KontrastError, type NativeFailure } from './errors';

/** A tensor in the addon's table. 0 is no tensor. */
export type Handle = number;

/** A value outside the frame: nested lists and dictionaries of plain values, tensors and objects. */
export type PackedValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | { tensor: Handle }
  | { object: number }
  | { re: number; im: number }
  | { entries: [PackedValue, PackedValue][] }
  | PackedValue[];

declare const eventMark: unique symbol;
declare const graphMark: unique symbol;

/** An event, in the addon's hands. */
export interface NativeEvent {
  readonly [eventMark]: never;
}

/** A CUDA graph, in the addon's hands. */
export interface NativeGraph {
  readonly [graphMark]: never;
}

/** What the addon offers. Handles of disposed tensors raise `DisposedError`. */
export interface Native {
  /** The memory of the call frame, one buffer an array. Results that do not fit the pool make the addon call `growPool`. */
  frame(growPool: (count: number) => void): {
    kind: ArrayBuffer;
    value: ArrayBuffer;
    length: ArrayBuffer;
    keyword: ArrayBuffer;
    call: ArrayBuffer;
  };
  /** Gives the addon the memory for items of lists. */
  setPool(pool: ArrayBuffer): void;
  /** The index of an operator: all overloads of `aten::add`, or one: `aten::add.Tensor`. */
  operator(name: string): number;
  hasOperator(name: string): boolean;
  /** Keeps a string; gives `kind * 2 ** 32 + index`. */
  intern(text: string): number;
  /** Runs an operator on entries of the frame, where its results are then. Which, how many and how many are in `call`. */
  invoke(): void;
  /** Chooses the overload for `count` entries of the frame and converts them, without running it; gives its schema. */
  resolveOverload(operator: number, count: number): string;
  /** The schema of every operator that is registered, sorted. */
  schemas(): string[];

  release(handle: Handle): void;
  /** Releases the handles that are the first `count` items of the pool. */
  releaseMany(count: number): void;
  track(handle: Handle): void;
  /** Leaves the sizes in the pool, gives how many. */
  shape(handle: Handle): number;
  strides(handle: Handle): number;
  numel(handle: Handle): number;
  dtype(handle: Handle): number;
  /** Whether a tensor picks positions along a dimension, or is a mask, and has dimensions of its own. */
  isIndex(handle: Handle): boolean;
  layout(handle: Handle): number;
  isContiguous(handle: Handle, memoryFormat: number): boolean;
  device(handle: Handle): string;
  item(handle: Handle): number | bigint | boolean;
  read(handle: Handle, widen: boolean): ArrayBuffer;
  readAsync(handle: Handle, widen: boolean): Promise<ArrayBuffer>;
  /** Makes a tensor from memory; its sizes are the first `dimensions` items of the pool. */
  fromBuffer(bytes: Uint8Array, dtype: number, dimensions: number, share: boolean): Handle;
  setData(handle: Handle, other: Handle): void;
  isSame(a: Handle, b: Handle): boolean;
  liveTensors(): number;

  /** Keeps a value that the frame has no entry for; gives its number. */
  pack(value: PackedValue): number;
  /** Takes a value out of the table. */
  unpack(index: number): PackedValue;
  releaseObject(index: number): void;
  objectType(index: number): string;
  storageOf(handle: Handle): number;

  backward(
    outputs: Handle[],
    gradients: Handle[],
    retainGraph: boolean | undefined,
    createGraph: boolean,
    inputs: Handle[],
  ): void;
  /** As `invoke`, beside the event loop: the arguments are read now, the results are in the frame while `callback` runs. */
  invokeAsync(operator: number, count: number, callback: (error: unknown, results: number) => void): void;
  backwardAsync(
    outputs: Handle[],
    gradients: Handle[],
    retainGraph: boolean | undefined,
    createGraph: boolean,
    inputs: Handle[],
    callback: (error: unknown) => void,
  ): void;
  /** Runs `forward` and notes in the graph that `backward` belongs to its outputs, under a name. */
  callFunction(
    name: string,
    inputs: Handle[],
    forward: () => { outputs: Handle[]; saved: Handle[]; dirty: Handle[]; constant: Handle[] },
    backward: (gradients: Handle[], saved: Handle[]) => void,
  ): Handle[];
  /** What a function called by the addon gives back: tensors, by handles that need to live only until it returns. */
  give(handles: Handle[]): void;
  /** `hook` gets a handle that is its own, and may give another gradient. */
  registerHook(handle: Handle, hook: (gradient: Handle) => void): number;
  removeHook(handle: Handle, hook: number): void;
  setAccumulationHook(handle: Handle, hook: ((leaf: Handle) => void) | undefined): void;
  grad(
    outputs: Handle[],
    inputs: Handle[],
    gradOutputs: Handle[],
    retainGraph: boolean | undefined,
    createGraph: boolean,
    allowUnused: boolean,
  ): Handle[];
  requiresGrad(handle: Handle): boolean;
  setRequiresGrad(handle: Handle, on: boolean): void;
  isLeaf(handle: Handle): boolean;
  /** The name of the function by which gradients flow on; null for a leaf. */
  gradientFunction(handle: Handle): string | null;
  gradientOf(handle: Handle): Handle;
  setGradient(handle: Handle, gradient: Handle): void;
  isGradEnabled(): boolean;
  setGradEnabled(on: boolean): void;
  enterInferenceMode(): void;
  leaveInferenceMode(): void;
  isInferenceMode(): boolean;
  autocastState(device: string): [enabled: boolean, dtype: number];
  enterAutocast(device: string, enabled: boolean, dtype: number): void;
  leaveAutocast(device: string, enabled: boolean, dtype: number): void;

  /** Bytes that LibTorch has allocated on the CPU, now and at most. */
  cpuMemory(): [bytes: number, peakBytes: number];
  resetCpuPeak(): void;
  liveHandles(): Handle[];
  storageBytes(handle: Handle): number;
  /** Maps an open file, privately; 0 where the system does not. */
  mapFile(file: number, length: number): Handle;
  /** Bytes of a map as a tensor with a storage of its own, on which the map then lives. No two parts may overlap. */
  mappedPart(map: Handle, position: number, length: number): Handle;

  /** Keeps a tensor for other threads, to be received so many times; gives a token. */
  share(handle: Handle, receipts: number): number;
  receive(token: number): Handle;
  /** Whether it was still waiting. */
  withdraw(token: number): boolean;

  cudaDeviceCount(): number;
  /** The same device with its index; an error if it does not exist. */
  resolveDevice(device: string): string;
  /** Gives the index of the device that was current before. */
  exchangeCudaDevice(device: string): number;
  cudaProperties(
    device: string,
  ): { name: string; capability: [major: number, minor: number]; multiprocessors: number } | null;
  synchronize(device: string): void;
  threads(): number;
  setThreads(count: number): void;
  interopThreads(): number;
  setInteropThreads(count: number): void;
  build(): { version: string; cpuCapability: string; configuration: string; parallel: string };

  cudaMemoryStats(device: string): {
    allocatedBytes: number;
    peakAllocatedBytes: number;
    reservedBytes: number;
    peakReservedBytes: number;
    freeBytes: number;
    totalBytes: number;
    allocations: number;
    retries: number;
    failures: number;
  };
  emptyCudaCache(): void;
  resetCudaPeakMemory(device: string): void;

  streamObject(device: string, id: number): number;
  newStream(device: string, priority: number): number;
  currentStream(device: string): number;
  /** Gives the device and the stream that were current before, for `leaveStream`. */
  enterStream(device: string, stream: number): [device: number, stream: number];
  leaveStream(device: string, deviceBefore: number, streamBefore: number): void;
  queryStream(device: string, stream: number): boolean;
  synchronizeStream(device: string, stream: number): void;
  newEvent(device: string, timing: boolean): NativeEvent;
  recordEvent(event: NativeEvent, device: string, stream: number): void;
  waitForEvent(device: string, stream: number, event: NativeEvent): void;
  queryEvent(event: NativeEvent): boolean;
  synchronizeEvent(event: NativeEvent): void;
  elapsedTime(start: NativeEvent, end: NativeEvent): number;
  /** These two are rejected with a message, not an error. */
  awaitEvent(event: NativeEvent): Promise<void>;
  awaitDevice(device: string): Promise<void>;

  /** Captures the current stream's work from here on, in a pool of memory of its own or in another graph's. */
  beginCapture(sharing: NativeGraph | null): NativeGraph;
  endCapture(graph: NativeGraph): void;
  replayGraph(graph: NativeGraph): void;
  resetGraph(graph: NativeGraph): void;

  deterministic(): [on: boolean, warnOnly: boolean];
  setDeterministic(on: boolean, warnOnly: boolean): void;
  /** cuDNN's switches by number: 0 benchmark, 1 deterministic, 2 TF32. */
  cudnnSwitch(which: number): boolean;
  setCudnnSwitch(which: number, on: boolean): void;
  /** 0 for highest, 1 for high, 2 for medium. */
  float32MatmulPrecision(): number;
  setFloat32MatmulPrecision(precision: string): void;

  manualSeed(seed: bigint): void;
  newGenerator(device: string): number;
  defaultGenerator(device: string): number;
  releaseGenerator(generator: number): void;
  seedGenerator(generator: number, seed: bigint): void;
  initialSeed(generator: number): bigint;
  generatorState(generator: number): Handle;
  setGeneratorState(generator: number, state: Handle): void;

  /** Reads a TorchScript file; the number it gives stands for the module. */
  scriptLoad(path: string, device: string | undefined): number;
  scriptLoadAsync(path: string, device: string | undefined): Promise<number>;
  /** Runs a method. What crosses is described in `script-values.ts`. */
  scriptRun(script: number, method: string, given: unknown[]): unknown;
  scriptRunAsync(script: number, method: string, given: unknown[]): Promise<unknown>;
  /** Names and schemas in turn. */
  scriptMethods(script: number): string[];
  /** Names and handles in turn. */
  scriptTensors(script: number, buffers: boolean): (string | Handle)[];
  scriptTrain(script: number, on: boolean): void;
  scriptTo(script: number, device: string): void;
  scriptRelease(script: number): void;
}

/** What the addon exports: its functions for one copy of kontrast, given how failures become errors and what warnings do. */
interface Exports {
  instantiate(makeError: (failure: NativeFailure) => Error, onWarning: (message: string) => void): Native;
}

function requireAddon<T>(addon: Addon, file: string): T {
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    return require(join(addon.folder, file)) as T;
  } catch (error) {
    throw new KontrastError(`kontrast's addon at ${addon.folder} does not load: ${(error as Error).message}`, {
      code: 'ADDON_LOAD',
      cause: error,
    });
  }
}

/** The libraries to open, in an order in which each finds what it needs already loaded. CUDA's kernels come last. */
function librariesOf(libtorch: LibTorch): string[] {
  if (process.platform === 'darwin') return ['libc10.dylib', 'libtorch_cpu.dylib'];
  if (process.platform === 'win32') return ['c10.dll', 'torch_cpu.dll', 'c10_cuda.dll', 'torch_cuda.dll'];
  const cuda = process.env.KONTRAST_CUDA === '0' ? [] : ['libc10_cuda.so', 'libtorch_cuda.so'];
  const present = new Set(readdirSync(libtorch.lib));
  return ['libc10.so', 'libtorch_cpu.so', ...cuda].filter((name) => present.has(name));
}

function load(): { native: Native; libtorch: LibTorch } {
  const addon = findAddon();
  const libtorch = locateLibTorch({ builtFor: addon.builtFor ?? undefined });
  ensureTried(addon, libtorch);
  const loader = requireAddon<{ open(path: string): void }>(addon, 'kontrast_loader.node');
  for (const library of librariesOf(libtorch)) {
    try {
      loader.open(join(libtorch.lib, library));
    } catch (error) {
      throw new KontrastError(`LibTorch at ${libtorch.root} does not load: ${(error as Error).message}`, {
        code: 'LIBTORCH_LOAD',
        cause: error,
      });
    }
  }
  const native = requireAddon<Exports>(addon, 'kontrast.node').instantiate(errorFromNative, (message) => {
    process.emitWarning(message, { type: 'LibTorchWarning', code: 'LIBTORCH' });
  });
  return { native, libtorch };
}

const loaded = load();

/** The addon. */
export const native: Native = loaded.native;

/** The LibTorch that the addon runs on. */
export const libtorch: LibTorch = loaded.libtorch;
