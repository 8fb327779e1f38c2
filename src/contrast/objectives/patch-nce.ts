/** PatchNCE: patches of a translated image beside those of the original, layer by layer. */
import { InvalidArgumentError, torch, type Device, type DType, type Generator, type Tensor } from '../../torch';
import { functional, init, Linear, Module, ModuleList, ReLU, Sequential } from '../../nn';
import { contrast } from '../contrast';
import type { Execution } from '../statistics';
import { checkDevice, checkTemperature, positionsOf } from './parts';

/** What {@link patchNce} takes beside the features. */
export interface PatchNceOptions {
  /** τ. Default 0.07, as the authors. */
  temperature?: number | Tensor;
  /**
   * Where an output patch finds its negatives: `'image'` (default), the other patches of its own image, or `'batch'`, those of all images,
   * which the authors take for single-image translation.
   */
  negatives?: 'image' | 'batch';
  /**
   * The features of images of the target domain, and of what the generator makes of them: the identity term, which keeps the generator from
   * changing what need not change. The loss is then the mean of both. CUT has it, FastCUT does not. Default: none.
   */
  identity?: { outputs: readonly Tensor[]; inputs: readonly Tensor[] };
  /** λ, by which the loss is multiplied. Default 1, as CUT; FastCUT takes 10. */
  weight?: number;
  /** Whether the features of the input get no gradient, as the authors have it. Default true. */
  detachInputs?: boolean;
  execution?: Execution | 'auto';
}

/**
 * PatchNCE (Park, Efros, Zhang and Zhu 2020, "Contrastive Learning for Unpaired Image-to-Image Translation"): a patch of the output should be
 * told by its features from other patches of the input. It keeps what is where when images are translated without pairs.
 *
 *     L = λ/layers · Σ_layers mean over patches s of −log( exp(q_s·k_s / τ) / Σ_t exp(q_s·k_t / τ) )
 *
 * q are the output's features, k the input's, both taken to length one. The sum over t has the patches of the same image only ("internal
 * negatives"), unless `negatives` is `'batch'`.
 *
 * The authors' code puts exp(−10/τ) in the place of the positive among the negatives, which here is left out: at τ = 0.07 that is 1e−62.
 *
 * @param outputs one tensor a layer, [B, S, D]: S patches of each of B images; D may differ from layer to layer. See {@link PatchSampler}
 * @param inputs the same patches of the input
 * @returns the loss, without dimensions; 0 for images of one patch
 * @throws InvalidArgumentError if there are no layers, or shapes do not fit
 */
export function patchNce(outputs: readonly Tensor[], inputs: readonly Tensor[], options: PatchNceOptions = {}): Tensor {
  const { temperature = 0.07, negatives = 'image', identity, weight = 1, detachInputs = true, execution } = options;
  check(outputs, inputs, 'outputs', 'inputs');
  if (identity !== undefined) check(identity.outputs, identity.inputs, 'identity.outputs', 'identity.inputs');
  checkTemperature(temperature, 'patchNce');
  const lossOf = (queries: Tensor, keys: Tensor): Tensor => {
    const labels = positionsOf(queries.sizeOf(0), queries);
    const embeddings = detachInputs ? keys.detach() : keys;
    return contrast({ anchors: queries, candidates: { embeddings, labels }, labels, temperature, execution });
  };
  const layerLoss = (queries: Tensor, keys: Tensor): Tensor => {
    if (negatives === 'batch') return lossOf(queries.flatten(0, 1), keys.flatten(0, 1));
    const images = Array.from({ length: queries.sizeOf(0) }, (_, b) => lossOf(queries.at(b), keys.at(b)));
    return torch.stack(images).mean();
  };
  const domainLoss = (queries: readonly Tensor[], keys: readonly Tensor[]): Tensor =>
    torch.stack(queries.map((query, i) => layerLoss(query, keys[i]!))).mean();
  const loss = domainLoss(outputs, inputs);
  const both = identity === undefined ? loss : loss.add(domainLoss(identity.outputs, identity.inputs)).div(2);
  return weight === 1 ? both : both.mul(weight);
}

function check(queries: readonly Tensor[], keys: readonly Tensor[], queryName: string, keyName: string): void {
  if (queries.length === 0 || queries.length !== keys.length) {
    throw new InvalidArgumentError(
      `patchNce: ${queryName} and ${keyName} must be as many layers, at least one; found ${queries.length} and ${keys.length}`,
    );
  }
  queries.forEach((query, i) => {
    const key = keys[i]!;
    if (query.ndim !== 3 || query.numel() === 0 || query.shape.join() !== key.shape.join()) {
      throw new InvalidArgumentError(
        `patchNce: layer ${i}: ${queryName} and ${keyName} must both be [B, S, D], found [${query.shape.join(', ')}] and [${key.shape.join(', ')}]`,
      );
    }
    checkDevice(key, query, `patchNce: layer ${i}: ${keyName}`);
  });
}

/** What a {@link PatchSampler} is made from. */
export interface PatchSamplerOptions {
  /** The channels of each layer's feature maps. */
  channels: readonly number[];
  /** The size of hidden and output vectors. Default 256. */
  dimension?: number;
  /** How many positions are drawn a layer; layers with fewer give all. Default 256. */
  patches?: number;
  device?: Device;
  dtype?: DType;
  /** Where starting values and positions come from. Default: the device's default generator. */
  generator?: Generator;
}

/** Patches of several layers, and where they were taken from. */
export interface SampledPatches {
  /** One tensor a layer, [B, S, dimension], of length one. */
  features: Tensor[];
  /** One tensor a layer, int64 [S]: positions in the flattened map. Give them to the other image's call. */
  positions: Tensor[];
}

/**
 * Draws positions of feature maps and takes each through a layer's own head: linear, ReLU, linear, length one, as PatchNCE has it. Weights
 * start normal with a deviation of 0.02, biases at 0.
 */
export class PatchSampler extends Module<[readonly Tensor[], (readonly Tensor[])?], SampledPatches> {
  readonly heads: ModuleList;
  readonly patches: number;
  readonly #generator: Generator | undefined;

  constructor(options: PatchSamplerOptions) {
    super();
    const { channels, dimension = 256, patches = 256, device, dtype, generator } = options;
    if (!Number.isSafeInteger(patches) || patches < 1) {
      throw new InvalidArgumentError(
        `PatchSampler: patches must be an integer of at least 1, found ${String(patches)}`,
      );
    }
    this.patches = patches;
    this.#generator = generator;
    const heads = channels.map((inFeatures) => {
      const layer = (size: number): Linear => {
        const linear = new Linear({ inFeatures: size, outFeatures: dimension, device, dtype, generator });
        init.normal_(linear.weight, 0, 0.02, { generator });
        init.zeros_(linear.bias!);
        return linear;
      };
      return new Sequential(layer(inFeatures), new ReLU(), layer(dimension));
    });
    this.heads = new ModuleList(heads);
  }

  /**
   * @param maps one tensor a layer, [B, C, H, W]
   * @param positions those of an earlier call, so that both images' patches belong together. Default: drawn anew, the same for all B images
   * @throws InvalidArgumentError if layers or channels do not fit
   */
  override forward(maps: readonly Tensor[], positions?: readonly Tensor[]): SampledPatches {
    const heads = [...this.heads] as Module[];
    if (maps.length !== heads.length || (positions !== undefined && positions.length !== heads.length)) {
      throw new InvalidArgumentError(
        `PatchSampler: there are ${heads.length} layers, found ${maps.length} feature maps`,
      );
    }
    const taken = maps.map((map, i) => positions?.[i] ?? this.#draw(map));
    const features = maps.map((map, i) => {
      const vectors = map.flatten(2).transpose(1, 2).indexSelect(1, taken[i]!);
      return functional.normalize(heads[i]!.forward(vectors));
    });
    return { features, positions: taken };
  }

  #draw(map: Tensor): Tensor {
    if (map.ndim !== 4) {
      throw new InvalidArgumentError(
        `PatchSampler: feature maps must be [B, C, H, W], found [${map.shape.join(', ')}]`,
      );
    }
    const count = map.sizeOf(2) * map.sizeOf(3);
    const order = torch.randperm(count, { generator: this.#generator, device: map.device });
    return order.narrow(0, 0, Math.min(this.patches, count));
  }
}
