/** Contrastive attraction and contrastive repulsion. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { checkEmbeddings } from '../similarity';
import { checkDevice, checkNumber, widened } from './parts';

/** What {@link cacr} takes beside the views. */
export interface CacrOptions {
  /** α, the weight of attraction. Default 1. */
  attraction?: number;
  /** β, the weight of repulsion. Default 1. */
  repulsion?: number;
  /** t⁺: the greater, the more the farthest positive of a sample counts. Default 1, as in the authors' functions. */
  positiveScale?: number;
  /** t⁻: the greater, the more the nearest negatives count. Default 1, as in the authors' functions. */
  negativeScale?: number;
  /** `'distance'` (default), or `'uniform'` for the authors' ablation without weights. */
  weights?: 'distance' | 'uniform';
  /** Whether embeddings are taken to length one first. Default true. */
  normalize?: boolean;
}

/** The two parts of the loss, with gradients and without dimensions. */
export interface CacrParts {
  loss: Tensor;
  attraction: Tensor;
  /** Negative: minus a weighted mean of squared distances. */
  repulsion: Tensor;
}

/**
 * CACR (Zheng et al. 2021, "Contrastive Attraction and Contrastive Repulsion for Representation Learning"): positives contend among themselves
 * for attraction, negatives among themselves for repulsion. It holds up better than InfoNCE where classes are unbalanced.
 *
 *     attraction = mean over views v, samples i of  α Σ_{u≠v} w⁺ ‖z_vi − z_ui‖²,      w⁺ = softmax_u(+t⁺ ‖z_vi − z_ui‖²)
 *     repulsion  = mean over pairs v<u, samples i of −β Σ_{j≠i} w⁻ ‖z_vi − z_uj‖²,    w⁻ = softmax_j(−t⁻ ‖z_vi − z_uj‖²)
 *
 * Gradients go through the weights, as the authors have it. With two views there is one positive, whose weight is 1: the weighting of
 * attraction needs three. It is computed densely, one N×N matrix a pair of views. Their option of debiasing is not here.
 *
 * @param views at least two, [N, D] each: row i of all belongs to sample i
 * @returns the loss; repulsion is 0 for one sample
 * @throws InvalidArgumentError if there are fewer than two views, or shapes do not fit
 */
export function cacr(views: readonly Tensor[], options: CacrOptions = {}): Tensor {
  return cacrParts(views, options).loss;
}

/** The parts of {@link cacr}; takes the same. */
export function cacrParts(views: readonly Tensor[], options: CacrOptions = {}): CacrParts {
  const { attraction = 1, repulsion = 1, positiveScale = 1, negativeScale = 1 } = options;
  const { weights = 'distance', normalize = true } = options;
  if (views.length < 2) throw new InvalidArgumentError(`cacr: there must be at least two views, found ${views.length}`);
  const [first] = views as readonly [Tensor, ...Tensor[]];
  checkEmbeddings(first, 'cacr: view 0');
  views.forEach((view, i) => {
    checkEmbeddings(view, `cacr: view ${i}`, first.sizeOf(1), first.sizeOf(0));
    checkDevice(view, first, `cacr: view ${i}`);
  });
  for (const [name, value] of Object.entries({ attraction, repulsion, positiveScale, negativeScale })) {
    checkNumber(value, `cacr: ${name}`);
  }
  return withoutAutocast(first, () => {
    const z = widened(...views).map((view) => (normalize ? functional.normalize(view) : view));
    const weighted = (distances: Tensor, scale: number): Tensor =>
      (weights === 'uniform' ? distances.mean([1]) : distances.mul(distances.mul(scale).softmax(1)).sum([1])).mean();
    const near = z.map((view, v) => {
      const others = torch.stack(
        z.filter((_, u) => u !== v),
        1,
      );
      return weighted(others.sub(view.unsqueeze(1)).square().sum([2]), positiveScale);
    });
    const pulled = torch.stack(near).mean().mul(attraction);
    const count = first.sizeOf(0);
    if (count === 1) return { loss: pulled, attraction: pulled, repulsion: pulled.newZeros([]) };
    const far = z.flatMap((view, v) =>
      z.slice(v + 1).map((other) => weighted(offDiagonal(squaredDistances(view, other)), -negativeScale)),
    );
    const pushed = torch.stack(far).mean().mul(-repulsion);
    return { loss: pulled.add(pushed), attraction: pulled, repulsion: pushed };
  });
}

function squaredDistances(a: Tensor, b: Tensor): Tensor {
  const [x, y] = [a.square().sum([1], true), b.square().sum([1])];
  return x.add(y).sub(a.matmul(b.t()).mul(2));
}

/** [N, N] without its diagonal, [N, N − 1]. */
function offDiagonal(matrix: Tensor): Tensor {
  const count = matrix.sizeOf(0);
  // Without the last element, rows of N + 1 begin with the diagonal.
  const rows = matrix
    .reshape([-1])
    .narrow(0, 0, count * count - 1)
    .reshape([count - 1, count + 1]);
  return rows.narrow(1, 1, count).reshape([count, count - 1]);
}
