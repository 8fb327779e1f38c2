import type { Generator } from '../torch';
import { normFactory1d, type Norm1d } from '../norm';
import { Linear, ReLU, Sequential, type Module } from '../nn';
import { positiveInteger } from '../nn/checks';
import type { Encoder } from './encoder';

/** What a {@link ProjectionHead} is made from. */
export interface ProjectionHeadOptions {
  /** The size of the encoder's vector. */
  inputSize: number;
  /** The size of the vectors in between. Default: `inputSize`. */
  hiddenSize?: number;
  /** The size of an embedding. Default 128. */
  outputSize?: number;
  /** How many linear layers there are. Default 2. */
  layers?: number;
  /**
   * The normalisation after every linear layer but the last, which then have no bias: by name (`'batch'`) or by a function that makes
   * it. Default: none.
   */
  norm?: Norm1d;
  /** The normalisation after the last linear layer, which then has no bias. Default: none. */
  outputNorm?: Norm1d;
  /** Where the starting values come from. Default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * The small network between encoder and loss (Chen et al. 2020, "SimCLR"): linear layers with ReLU in between,
 * [N, inputSize] to [N, outputSize]. It is thrown away after training. State names are the positions in the sequence.
 */
export class ProjectionHead extends Sequential implements Encoder {
  readonly outputSize: number;

  constructor(options: ProjectionHeadOptions) {
    const { inputSize, hiddenSize = inputSize, outputSize = 128, layers = 2, norm, outputNorm, generator } = options;
    positiveInteger(layers, 'ProjectionHead: layers');
    const parts: Module[] = [];
    for (let layer = 1; layer <= layers; layer++) {
      const isLast = layer === layers;
      const inFeatures = layer === 1 ? inputSize : hiddenSize;
      const outFeatures = isLast ? outputSize : hiddenSize;
      const normalise = isLast ? outputNorm : norm;
      parts.push(new Linear({ inFeatures, outFeatures, bias: normalise === undefined, generator }));
      if (normalise !== undefined) parts.push(normFactory1d(normalise)(outFeatures));
      if (!isLast) parts.push(new ReLU());
    }
    super(...parts);
    this.outputSize = outputSize;
  }
}
