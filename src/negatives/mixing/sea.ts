/** SeA: adversarial features that stay among real ones. */
import { functional } from '../../nn';
import { enableGrad, grad, InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkNumber, checkPaired, widened } from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';

/** What {@link semanticAdversarial} takes beside features and slopes. */
export interface SeAOptions {
  /** η: how far features are moved. Default 0.8, as in the authors' code. */
  step?: number;
  /** α: how sharply the direction is taken from the samples that are most like the slope. Default 0.01, as in the authors' code. */
  temperature?: number;
}

/**
 * SeA (Qian, Xu and Hu 2024, "SeA: Semantic Adversarial Augmentation for Last Layer Features from Unsupervised Representation Learning"): features are moved
 * towards a higher loss, but only along other samples of the batch, so that what comes out still means something:
 *
 *     gᵢ = unit(∂ℓ/∂xᵢ),   wᵢⱼ ∝ exp(gᵢ·xⱼ/α) for j ≠ i, 0 for i itself,   x̃ᵢ = unit( xᵢ + η·unit(Σⱼ wᵢⱼ xⱼ) )
 *
 * Checked against the authors' code: the "projection to the span of the other examples" is this weighted mean of them. The result has no gradient;
 * train the classifier on it. The authors train a linear one without bias with temperature 0.1.
 *
 * For linear classifiers on fixed features.
 *
 * @param features [N, D] of length one, of any floating-point dtype, of at least two samples
 * @param slopes [N, D]: the gradient of the loss by the features; only directions count
 * @returns [N, D] of length one, float32 or float64
 * @throws InvalidArgumentError if shapes, dtypes, devices or numbers do not fit
 */
export function semanticAdversarial(features: Tensor, slopes: Tensor, options: SeAOptions = {}): Tensor {
  const { step = 0.8, temperature = 0.01 } = options;
  checkPaired(features, slopes, 'semanticAdversarial', ['features', 'slopes']);
  checkNumber(step, 'semanticAdversarial: step');
  checkNumber(temperature, 'semanticAdversarial: temperature', { above: true });
  if (features.sizeOf(0) < 2) {
    throw new InvalidArgumentError('semanticAdversarial: features: one sample has no others to move along');
  }
  return withoutAutocast(features, () =>
    noGrad(() =>
      scope(() => {
        const [x, g] = widened(features.detach(), slopes.detach());
        const weights = functional.normalize(g).matmul(x.t()).div(temperature).fillDiagonal_(-Infinity).softmax(1);
        return functional.normalize(x.add(functional.normalize(weights.matmul(x)).mul(step)));
      }),
    ),
  );
}

/**
 * {@link semanticAdversarial} with the slopes of a loss that is given as a function of the features.
 *
 * ```ts
 * const moved = seA(features, (x) => crossEntropy(classifier.forward(x).div(0.1), labels));
 * ```
 *
 * @param features [N, D] of length one
 * @param loss gives a loss without dimensions; nothing of it is kept, and no gradient reaches the classifier
 */
export function seA(features: Tensor, loss: (features: Tensor) => Tensor, options: SeAOptions = {}): Tensor {
  checkEmbeddings(features, 'seA: features');
  return scope(() => {
    const leaf = features.detach().clone().requiresGrad_();
    const [slopes] = enableGrad(() => grad(loss(leaf).sum(), leaf));
    return semanticAdversarial(features, slopes ?? torch.zerosLike(features), options);
  });
}
