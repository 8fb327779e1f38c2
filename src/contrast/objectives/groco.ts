/** GroCo: positives before negatives, by a sorting network that can be differentiated. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { checkEmbeddings } from '../similarity';
import { checkDevice, checkNumber, positionsOf, reduced, widened, type Reduction } from './parts';

/** What {@link softSort} takes beside the values. */
export interface SoftSortOptions {
  /** How sharp swaps are: the greater, the nearer to sorting. Default 1. */
  steepness?: number;
}

/** Values in soft ascending order, and how they came there. */
export interface SoftSorted {
  /** [N, K] */
  values: Tensor;
  /** [N, K, K]: how much of the input in the row's position lands at the column's rank. Rows and columns sum to 1. */
  permutation: Tensor;
}

/**
 * Sorts rows by an odd-even network whose swaps are soft (Petersen et al. 2022, "Monotonic Differentiable Sorting Networks"): of two neighbours a
 * and b, min is v·a + (1−v)·b and max v·b + (1−v)·a, with v = ½ + atan(steepness·(b − a))/π, the Cauchy distribution function. K layers do.
 *
 * @param values [N, K]
 * @throws InvalidArgumentError if it is no matrix, or the steepness is not positive
 */
export function softSort(values: Tensor, options: SoftSortOptions = {}): SoftSorted {
  const { steepness = 1 } = options;
  checkEmbeddings(values, 'softSort: values');
  checkNumber(steepness, 'softSort: steepness', { above: true });
  return withoutAutocast(values, () => {
    const [wide] = widened(values);
    const [rows, size] = [wide.sizeOf(0), wide.sizeOf(1)];
    const identity = torch.eye(size, { dtype: wide.dtype, device: wide.device });
    // Row 0 of each sample's block is its values, the others its permutation: all are mixed alike.
    let block = torch.cat([wide.unsqueeze(1), identity.unsqueeze(0).expand([rows, size, size])], 1);
    for (let layer = 0; layer < size; layer++) {
      const start = layer % 2;
      const pairs = Math.floor((size - start) / 2);
      if (pairs === 0) continue;
      const both = block.narrow(2, start, 2 * pairs).reshape([rows, size + 1, pairs, 2]);
      const [a, b] = [both.select(3, 0), both.select(3, 1)];
      const gap = b.narrow(1, 0, 1).sub(a.narrow(1, 0, 1));
      const stay = gap.mul(steepness).atan().div(Math.PI).add(0.5);
      const moved = a.sub(b).mul(stay);
      // min = b + v(a − b), max = a − v(a − b).
      const swapped = torch.stack([b.add(moved), a.sub(moved)], 3).reshape([rows, size + 1, 2 * pairs]);
      const rest = size - start - 2 * pairs;
      block = torch.cat([block.narrow(2, 0, start), swapped, block.narrow(2, size - rest, rest)], 2);
    }
    return { values: block.select(1, 0), permutation: block.narrow(1, 1, size) };
  });
}

/** What {@link groco} takes beside the views. */
export interface GrocoOptions {
  /** How sharp swaps are. Default 1, as the authors. */
  steepness?: number;
  /** How many of an anchor's negatives are sorted, the most alike. Default 10, or all if there are fewer. */
  negatives?: number;
  /** Whether only anchors get gradients, as the authors have it. Default true. */
  detach?: boolean;
  reduction?: Reduction;
}

/**
 * GroCo (Shvetsova, Petersen, Kukleva, Schiele and Kuehne 2023, "Learning by Sorting: Self-supervised Learning with Group Ordering Constraints"): an
 * anchor's cosines with positives and negatives are sorted softly, and what counts is that positives end among the highest, in any order.
 *
 *     pⱼ = how much of candidate j lands at the ranks of positives, by {@link softSort}
 *     Lᵢ = mean over j of −log pⱼ if j is a positive, −log(1 − pⱼ) if it is a negative
 *
 * Each view is the anchor once. Its positives are the sample's other views, its negatives the same view of other samples, of which the most alike
 * are taken. Both are put in order before, so that the network mends only what is between them. It is dense.
 *
 * @param views at least two tensors [N, D]: row i of all belongs to sample i
 * @returns the loss without dimensions, or [N] with reduction `'none'`, the mean over views; 0 for one sample
 * @throws InvalidArgumentError if there are fewer than two views, or shapes do not fit
 */
export function groco(views: readonly Tensor[], options: GrocoOptions = {}): Tensor {
  const { steepness = 1, negatives = 10, detach = true, reduction } = options;
  const [first] = views;
  if (first === undefined || views.length < 2) {
    throw new InvalidArgumentError(`groco: there must be at least two views, found ${views.length}`);
  }
  checkEmbeddings(first, 'groco: view 0');
  const [count, dimension] = [first.sizeOf(0), first.sizeOf(1)];
  views.forEach((view, i) => {
    checkEmbeddings(view, `groco: view ${i}`, dimension, count);
    checkDevice(view, first, `groco: view ${i}`);
  });
  if (!Number.isSafeInteger(negatives) || negatives < 1) {
    throw new InvalidArgumentError(`groco: negatives must be an integer of at least 1, found ${String(negatives)}`);
  }
  checkNumber(steepness, 'groco: steepness', { above: true });
  const taken = Math.min(negatives, count - 1);
  return withoutAutocast(first, () => {
    const z = widened(...views).map((view) => functional.normalize(view));
    const fixed = detach ? z.map((view) => view.detach()) : z;
    if (taken === 0) return reduced(z[0]!.mul(0).sum([1]), reduction);
    const losses = z.map((anchors, v) => {
      const others = torch.stack(
        fixed.filter((_, u) => u !== v),
        1,
      );
      const [positives] = anchors.unsqueeze(1).mul(others).sum([2]).sort(1);
      const scores = anchors.matmul(fixed[v]!.t());
      const [hardest] = scores.scatter(1, positionsOf(count, scores).unsqueeze(1), -Infinity).topk(taken, 1);
      const { permutation } = softSort(torch.cat([hardest.flip([1]), positives], 1), { steepness });
      const isPositive = positionsOf(permutation.sizeOf(1), scores).ge(taken);
      const landed = torch.stack(
        [permutation.narrow(2, 0, taken).sum([2]), permutation.narrow(2, taken, views.length - 1).sum([2])],
        0,
      );
      const right = torch.where(isPositive, landed.select(0, 1), landed.select(0, 0));
      // Rounding may bring a share to 0 or above 1.
      return right.clamp(1e-30, 1).log().neg().mean([1]);
    });
    return reduced(torch.stack(losses).mean([0]), reduction);
  });
}
