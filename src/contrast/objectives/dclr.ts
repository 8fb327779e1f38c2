/** DCLR: negatives that a guide lets through, and negatives made of noise. */
import { grad, enableGrad, InvalidArgumentError, noGrad, scope, torch, type Generator, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { contrast, type Candidates } from '../contrast';
import { checkEmbeddings } from '../similarity';
import type { Execution } from '../statistics';
import {
  checkDevice,
  checkNumber,
  checkPaired,
  checkTemperature,
  partitionLink,
  positionsOf,
  type Reduction,
  widened,
} from './parts';

/** What {@link dclr} takes beside the embeddings. */
export interface DclrOptions {
  /** τ. Default 0.05, as SimCSE. */
  temperature?: number | Tensor;
  /** A complementary model's embeddings of both sides, [N, E] each. Default: every negative counts. */
  guides?: { first: Tensor; second: Tensor };
  /** φ: a negative whose cosine by the guide is above it has weight 0, others 1. Default 0.9. */
  threshold?: number;
  /** [K, D]: further negatives, as {@link noiseNegatives} makes them. Default: none. */
  noise?: Tensor;
  reduction?: Reduction;
  execution?: Execution | 'auto';
}

/**
 * DCLR (Zhou, Zhang, Zhao and Wen 2022, "Debiased Contrastive Learning of Unsupervised Sentence Representations"): InfoNCE without the negatives that
 * another model holds for false ones, and with noise among the negatives, which evens out the space.
 *
 *     Lᵢ = −log( exp(sᵢᵢ/τ) / ( exp(sᵢᵢ/τ) + Σ_{j≠i} αᵢⱼ exp(sᵢⱼ/τ) + Σₖ exp(cos(xᵢ, n̂ₖ)/τ) ) )
 *     αᵢⱼ = 0 if the guide's cosine of i and j is above φ, else 1
 *
 * Noise has weight 1, as in the authors' code, since a guide has nothing to say of it. The paper writes the sum over negatives without the
 * positive; their code has it in its softmax, as SimCSE and this have, but there a negative of weight 0 still counts as a score of 0, and the
 * loss is the binary cross-entropy of all shares instead of the positive's alone.
 *
 * @param first [N, D]
 * @param second [N, D]: row i is the positive of row i
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 * @throws InvalidArgumentError if shapes do not fit
 */
export function dclr(first: Tensor, second: Tensor, options: DclrOptions = {}): Tensor {
  const { temperature = 0.05, guides, threshold = 0.9, noise, reduction, execution } = options;
  checkPaired(first, second, 'dclr');
  checkTemperature(temperature, 'dclr');
  checkNumber(threshold, 'dclr: threshold', { low: -1, high: 1 });
  const count = first.sizeOf(0);
  if (noise !== undefined) {
    checkEmbeddings(noise, 'dclr: noise', first.sizeOf(1));
    checkDevice(noise, first, 'dclr: noise');
  }
  const labels = positionsOf(count, first);
  const batch: Candidates = { embeddings: second, labels };
  const others: Candidates[] = noise === undefined ? [] : [{ embeddings: noise }];
  const common = { anchors: first, labels, temperature, reduction, execution };
  if (guides === undefined) return contrast({ ...common, candidates: [batch, ...others] });
  checkPaired(guides.first, guides.second, 'dclr', ['guides.first', 'guides.second']);
  if (guides.first.sizeOf(0) !== count) {
    throw new InvalidArgumentError(`dclr: guides: expected ${count} rows, found ${guides.first.sizeOf(0)}`);
  }
  const [rows, columns] = withoutAutocast(first, () =>
    noGrad(() => widened(guides.first, guides.second, first).map((x) => functional.normalize(x))),
  );
  return contrast({
    ...common,
    candidates: [{ ...batch, guides: columns! }, ...others],
    guides: rows!,
    guideLimits: rows!.newFull([count], threshold),
  });
}

/** What {@link noiseNegatives} takes beside the anchors. */
export interface NoiseNegativesOptions {
  /** K, how many. Default: as many as anchors; the authors take up to five times that for some models. */
  count?: number;
  /** The deviation of the normal distribution that they start from. Default 1. */
  deviation?: number;
  /** How many steps of ascent. Default 4. */
  steps?: number;
  /** β, how far a step goes. Default 1e-3. */
  stepSize?: number;
  /** τ_u, in the loss that is raised. Default 0.05. */
  temperature?: number;
  /** Default: the device's default generator. */
  generator?: Generator;
  execution?: Execution | 'auto';
}

/**
 * Noise vectors for {@link dclr}, moved to where embeddings are crowded: normal at first, then, `steps` times, by
 *
 *     n̂ ← n̂ + β·g/‖g‖,   g = ∇ over n̂ of mean over i of log Σₖ exp(cos(xᵢ, n̂ₖ)/τ_u)
 *
 * which is the ascent of the loss that grows as anchors come nearer to noise than to their positives. The authors' code has the batch's own
 * pairs in the sum too, so that anchors with near ones count less.
 *
 * @param anchors [N, D]
 * @returns [count, D] without gradient, float32 or float64
 * @throws InvalidArgumentError if an option makes no sense
 */
export function noiseNegatives(anchors: Tensor, options: NoiseNegativesOptions = {}): Tensor {
  checkEmbeddings(anchors, 'noiseNegatives: anchors');
  const { count = anchors.sizeOf(0), deviation = 1, steps = 4, stepSize = 1e-3, temperature = 0.05 } = options;
  const { generator, execution } = options;
  for (const [name, value, least] of [
    ['count', count, 1],
    ['steps', steps, 0],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least) {
      throw new InvalidArgumentError(`noiseNegatives: ${name} must be an integer of at least ${least}, found ${value}`);
    }
  }
  checkNumber(deviation, 'noiseNegatives: deviation', { above: true });
  checkNumber(stepSize, 'noiseNegatives: stepSize');
  checkNumber(temperature, 'noiseNegatives: temperature', { above: true });
  return scope(() => {
    const [fixed] = widened(anchors.detach());
    const { dtype, device } = fixed;
    let noise = torch.randn([count, anchors.sizeOf(1)], { dtype, device, generator }).mul(deviation);
    for (let step = 0; step < steps; step++) {
      const moving = noise.detach().requiresGrad_();
      const slope = enableGrad(() => {
        const candidates = { embeddings: moving };
        return grad(contrast({ anchors: fixed, candidates, temperature, link: partitionLink, execution }), [
          moving,
        ])[0]!;
      });
      noise = moving.detach().add(functional.normalize(slope).mul(stepSize));
    }
    return noise;
  });
}
