/** i-Mix: mixed inputs whose labels are places in the batch. */
import { functional } from '../../nn';
import { scope, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { contrast, type Candidates } from '../../contrast/contrast';
import {
  checkDevice,
  checkPaired,
  checkTemperature,
  partitionLink,
  reduced,
  widened,
} from '../../contrast/objectives/parts';
import type { CommonOptions } from '../../contrast/objectives/common-options';
import { checkEmbeddings } from '../../contrast/similarity';
import {
  areaOutside,
  checkConcentration,
  checkInputs,
  checkMix,
  cutMix,
  drawBeta,
  drawBox,
  drawOrder,
  mixup,
  type MixedInputs,
} from './mix';

/** What {@link mixVirtual} takes beside the inputs. */
export interface MixVirtualOptions {
  /** α of Beta(α, α). Default 1, as in the authors' code. */
  alpha?: number;
  /** Sums of inputs (default), or rectangles of images; these are one for the whole batch. */
  how?: 'mixup' | 'cutmix';
  generator: Generator;
}

/**
 * Mixes inputs for {@link iMix}: each with one of a random order of the batch, its own share λ the larger one, λ = max(x, 1 − x) with x from
 * Beta(α, α), drawn for each input. For `'cutmix'` one λ is drawn for the batch and then taken from the area that the rectangle left.
 *
 * @param inputs [N, …]: inputs of the query's side, or features of a layer; [N, C, H, W] for `'cutmix'`
 * @throws InvalidArgumentError if inputs or α do not fit, before anything is drawn
 */
export function mixVirtual(inputs: Tensor, options: MixVirtualOptions): MixedInputs {
  const { alpha = 1, how = 'mixup', generator } = options;
  checkInputs(inputs, 'mixVirtual: inputs', how === 'cutmix' ? 4 : 1);
  checkConcentration(alpha, 'mixVirtual: alpha');
  const count = inputs.sizeOf(0);
  return scope(() => {
    const partners = drawOrder(count, generator, inputs);
    const drawn = drawBeta([how === 'mixup' ? count : 1], alpha, generator);
    const larger = drawn.maximum(drawn.neg().add(1));
    const dtype = inputs.dtype === 'float64' ? 'float64' : 'float32';
    const lambda = larger.to({ dtype, device: inputs.device });
    if (how === 'mixup') return { inputs: mixup(inputs, partners, lambda), partners, lambda };
    const [height, width] = inputs.shape.slice(2) as [number, number];
    const box = drawBox(height, width, Number(larger.itemSync()), generator);
    const left = lambda.newFull([count], areaOutside(box, height, width));
    return { inputs: cutMix(inputs, partners, box), partners, lambda: left };
  });
}

/** What {@link iMix} takes beside the embeddings. */
export interface IMixOptions extends CommonOptions {
  /** int64 [N]: with whom each query's input was mixed, as {@link mixVirtual} gives it. */
  partners: Tensor;
  /** [N]: its own share. */
  lambda: Tensor;
  /** [K, D]: further negatives, for momentum contrast. Default: none, the N-pair form. */
  queue?: Tensor;
  /** τ: a number, or a tensor of one element. Default 0.2, as in the authors' code. */
  temperature?: number | Tensor;
}

/**
 * i-Mix (Lee, Zhu, Sohn, Li, Shin and Lee 2021, "i-Mix: A Domain-Agnostic Strategy for Contrastive Representation Learning"): mixup where there are no
 * labels. Each sample is a class of its own, its place in the batch, and a mixed query belongs to two of them:
 *
 *     lossᵢ = λᵢ ℓ(qᵢ, i) + (1 − λᵢ) ℓ(qᵢ, partner(i)),   ℓ(q, v) = −log( exp(cos(q, k_v)/τ) / Σⱼ exp(cos(q, kⱼ)/τ) )
 *
 * The sum goes over the keys of the batch and, for momentum contrast, over the queue too, whose keys are nobody's class. So the other keys of the
 * batch are negatives in both forms, as in the authors' code, since the partner's key has to be among them. Keys are those of inputs that
 * were not mixed; detach them for momentum contrast.
 *
 * For contrastive training where augmentations are weak or unknown: tables, sound, few data.
 *
 * @param queries [N, D]: embeddings of mixed inputs, of any floating-point dtype
 * @param keys [N, D]: row i belongs to input i
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 * @throws InvalidArgumentError if shapes, dtypes, devices or the temperature do not fit
 */
export function iMix(queries: Tensor, keys: Tensor, options: IMixOptions): Tensor {
  const { partners, lambda, queue, temperature = 0.2, reduction, execution } = options;
  checkPaired(queries, keys, 'iMix', ['queries', 'keys']);
  checkMix(partners, lambda, queries.sizeOf(0), queries, 'iMix');
  checkTemperature(temperature, 'iMix');
  if (queue !== undefined) {
    checkEmbeddings(queue, 'iMix: queue', queries.sizeOf(1));
    checkDevice(queue, queries, 'iMix: queue');
  }
  const candidates: Candidates[] = [
    { embeddings: keys },
    ...(queue === undefined ? [] : [{ embeddings: queue.detach() }]),
  ];
  const all = contrast({
    anchors: queries,
    candidates,
    temperature,
    link: partitionLink,
    reduction: 'none',
    execution,
  });
  return withoutAutocast(queries, () => {
    const [q, k] = widened(queries, keys).map((x) => functional.normalize(x)) as [Tensor, Tensor];
    const wanted = mixup(k, partners, lambda);
    return reduced(all.sub(q.mul(wanted).sum([1]).div(temperature)), reduction);
  });
}
