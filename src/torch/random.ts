/** Random numbers: seeds, generators and their states. */
import { inspect } from 'node:util';
import { InvalidArgumentError } from './errors';
import { GeneratorHandle, wrap } from './frame';
import { native } from './native';
import type { Tensor } from './tensor';
import type { Device } from './types';

const collected = new FinalizationRegistry<number>((index) => {
  native.releaseGenerator(index);
});

function toSeed(seed: number | bigint): bigint {
  if (typeof seed !== 'bigint' && !Number.isSafeInteger(seed)) {
    throw new InvalidArgumentError(`a seed is a whole number, not ${inspect(seed)}`);
  }
  return BigInt.asUintN(64, BigInt(seed));
}

/** Options of {@link Generator}. */
export interface GeneratorOptions {
  /** Default: `'cpu'`. */
  device?: Device;
  /** Default: LibTorch's own, 67280421310721. */
  seed?: number | bigint;
}

/** A source of random numbers with a state of its own, for operators' `generator` option. */
export class Generator extends GeneratorHandle {
  /** The device whose operators it serves. */
  readonly device: Device;

  constructor(options: GeneratorOptions = {}) {
    const { device = 'cpu', seed } = options;
    super(native.newGenerator(device));
    this.device = device;
    collected.register(this, this.index);
    if (seed !== undefined) this.manualSeed(seed);
  }

  /** Starts the sequence that belongs to a seed. */
  manualSeed(seed: number | bigint): this {
    native.seedGenerator(this.index, toSeed(seed));
    return this;
  }

  /** The seed that the present sequence started from. */
  get initialSeed(): bigint {
    return native.initialSeed(this.index);
  }

  /** The whole state as bytes, a uint8 tensor on the CPU. */
  getState(): Tensor {
    return wrap(native.generatorState(this.index)) as Tensor;
  }

  /**
   * Goes on from a state that {@link Generator.getState} gave.
   *
   * @throws TorchError if the tensor is no state of a generator of this device
   */
  setState(state: Tensor): void {
    native.setGeneratorState(this.index, state.handle);
  }
}

const defaults = new Map<string, Generator>();

/** The generator that operators of a device use when none is given. */
export function defaultGenerator(device: Device = 'cpu'): Generator {
  let generator = defaults.get(device);
  if (generator === undefined) {
    generator = Object.assign(Object.create(Generator.prototype) as Generator, {
      index: native.defaultGenerator(device),
      device,
    });
    defaults.set(device, generator);
  }
  return generator;
}

/** Seeds the default generators of all devices. */
export function manualSeed(seed: number | bigint): void {
  native.manualSeed(toSeed(seed));
}
