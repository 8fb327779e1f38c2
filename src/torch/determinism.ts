/** Switches between speed, precision and determinism. They belong to the process: all threads and workers. */
import { inspect } from 'node:util';
import { InvalidArgumentError } from './errors';
import { native } from './native';

/** Options of {@link setDeterministic}. */
export interface DeterministicOptions {
  /** Warn about operators that have no deterministic form, instead of raising an error. Default: false. */
  warnOnly?: boolean;
}

function checkBoolean(name: string, value: boolean): boolean {
  if (typeof value === 'boolean') return value;
  throw new InvalidArgumentError(`${name} is true or false, not ${inspect(value)}`);
}

/**
 * Chooses deterministic forms of operators, which give the same bits for the same input on the same machine and may be
 * slower. An operator that has none is an error. New memory (`torch.empty`) is filled with NaN, or the largest integer, so that
 * nothing depends on what was there.
 */
export function setDeterministic(on: boolean, options: DeterministicOptions = {}): void {
  const { warnOnly = false } = options;
  native.setDeterministic(checkBoolean('deterministic mode', on), checkBoolean('warnOnly', warnOnly));
}

/** Whether {@link setDeterministic} is on. */
export function isDeterministic(): boolean {
  return native.deterministic()[0];
}

// The numbers of the switches in native/determinism.cc.
const benchmark = 0;
const deterministic = 1;
const allowTF32 = 2;

/** How cuDNN, which computes convolutions on CUDA devices, works. The switches can be set on any machine. */
export const cudnn = {
  /** Whether algorithms are timed at the first use of each shape, and the quickest kept: for shapes that stay. Default: false. */
  get benchmark(): boolean {
    return native.cudnnSwitch(benchmark);
  },
  set benchmark(on: boolean) {
    native.setCudnnSwitch(benchmark, checkBoolean('cudnn.benchmark', on));
  },

  /** Whether only deterministic algorithms are used; {@link setDeterministic} does so too. Default: false. */
  get deterministic(): boolean {
    return native.cudnnSwitch(deterministic);
  },
  set deterministic(on: boolean) {
    native.setCudnnSwitch(deterministic, checkBoolean('cudnn.deterministic', on));
  },

  /** Whether float32 convolutions may round their inputs to TF32, which has 10 bits of mantissa. Default: true. */
  get allowTF32(): boolean {
    return native.cudnnSwitch(allowTF32);
  },
  set allowTF32(on: boolean) {
    native.setCudnnSwitch(allowTF32, checkBoolean('cudnn.allowTF32', on));
  },
};

const precisions = ['highest', 'high', 'medium'] as const;

/** How exact products of float32 matrices are. See {@link setFloat32MatmulPrecision}. */
export type Float32MatmulPrecision = (typeof precisions)[number];

/** How exact products of float32 matrices are now. */
export function getFloat32MatmulPrecision(): Float32MatmulPrecision {
  return precisions[native.float32MatmulPrecision()]!;
}

/**
 * Sets how exact products of float32 matrices are: `'highest'` computes in float32, the default; `'high'` may round their
 * inputs to TF32 on a CUDA device; `'medium'` may do so too, and may round to bfloat16 on a CPU that multiplies it quickly.
 */
export function setFloat32MatmulPrecision(precision: Float32MatmulPrecision): void {
  if (!precisions.includes(precision)) {
    throw new InvalidArgumentError(
      `the precision is ${precisions.map((name) => `'${name}'`).join(', ')}, not ${inspect(precision)}`,
    );
  }
  native.setFloat32MatmulPrecision(precision);
}
