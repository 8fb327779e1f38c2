/** SCAV: sequences compared frame by frame instead of by one vector. */
import { InvalidArgumentError, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { functional } from '../../nn';
import { checkDevice, checkNumber, checkTemperature, positionsOf, reduced, widened, type Reduction } from './parts';

/**
 * How far two sequences of vectors are apart:
 *
 * - `'interpolated'`: the shorter is stretched to the longer's length by linear interpolation; the root of the mean squared distance of frames
 * - `'dtw'`: dynamic time warping; the least sum of frame distances along a path that goes forward in one or both sequences at each step
 * - `'wasserstein'`: frames without their order; the mean frame distance under the entropic transport of one sequence's frames to the other's
 */
export type SequenceDistance = 'interpolated' | 'dtw' | 'wasserstein';

/** What {@link sequenceDistances} takes beside the sequences. */
export interface SequenceDistanceOptions {
  /** Default `'interpolated'`. */
  distance?: SequenceDistance;
  /** Whether frames are taken to length one first. Default true. */
  normalize?: boolean;
  /** ε of the Wasserstein distance: the less, the nearer to exact transport, and the more steps it needs. Default 0.05. */
  regularization?: number;
  /** Sinkhorn steps of the Wasserstein distance. Default 50. */
  steps?: number;
}

/**
 * The distance of each sequence of one set from each of the other. All are dense: interpolated distances take [N, M] and longer sequences of one
 * set, the others [N, M, T, S], and time warping T·S operators.
 *
 * @param first [N, T, D]
 * @param second [M, S, D]
 * @returns [N, M], with gradients; that of time warping goes along the best path
 * @throws InvalidArgumentError if shapes do not fit
 */
export function sequenceDistances(first: Tensor, second: Tensor, options: SequenceDistanceOptions = {}): Tensor {
  const { distance = 'interpolated', normalize = true, regularization = 0.05, steps = 50 } = options;
  for (const [name, x] of Object.entries({ first, second })) {
    if (x.ndim !== 3 || x.numel() === 0 || x.sizeOf(2) !== first.shape[2] || !x.isFloatingPoint()) {
      const expected = `[N, T, ${name === 'first' ? 'D' : String(first.shape[2])}]`;
      throw new InvalidArgumentError(
        `sequenceDistances: ${name}: expected floating-point numbers of shape ${expected}, found ${x.dtype} [${x.shape.join(', ')}]`,
      );
    }
  }
  checkDevice(second, first, 'sequenceDistances: second');
  checkNumber(regularization, 'sequenceDistances: regularization', { above: true });
  checkNumber(steps, 'sequenceDistances: steps', { low: 1 });
  return withoutAutocast(first, () => {
    const [x, y] = widened(first, second).map((z) => (normalize ? functional.normalize(z) : z));
    if (distance === 'interpolated') return interpolated(x!, y!);
    const costs = root(squaredDistances(x!.flatten(0, 1), y!.flatten(0, 1)))
      .reshape([x!.sizeOf(0), x!.sizeOf(1), y!.sizeOf(0), y!.sizeOf(1)])
      .transpose(1, 2);
    return distance === 'dtw' ? warped(costs) : transported(costs, regularization, steps);
  });
}

function squaredDistances(x: Tensor, y: Tensor): Tensor {
  const squares = x
    .square()
    .sum([1], true)
    .add(y.square().sum([1]));
  return squares.sub(x.matmul(y.t()).mul(2));
}

/** The root, with no gradient where rounding or equality leaves nothing. */
function root(squares: Tensor): Tensor {
  return squares.clampMin(squares.dtype === 'float64' ? 1e-14 : 1e-10).sqrt();
}

function interpolated(x: Tensor, y: Tensor): Tensor {
  const length = Math.max(x.sizeOf(1), y.sizeOf(1));
  const stretched = (z: Tensor): Tensor =>
    z.sizeOf(1) === length ? z : torch.upsampleLinear1d(z.transpose(1, 2), [length], false).transpose(1, 2);
  const [a, b] = [stretched(x).flatten(1), stretched(y).flatten(1)];
  return root(squaredDistances(a, b).div(length));
}

function warped(costs: Tensor): Tensor {
  const [rows, columns] = [costs.sizeOf(2), costs.sizeOf(3)];
  let above: Tensor[] = [];
  for (let t = 0; t < rows; t++) {
    const line: Tensor[] = [];
    for (let s = 0; s < columns; s++) {
      const cost = costs.select(2, t).select(2, s);
      const before = [above[s], line[s - 1], above[s - 1]].filter((x): x is Tensor => x !== undefined);
      line.push(before.length === 0 ? cost : cost.add(before.reduce((a, b) => a.minimum(b))));
    }
    above = line;
  }
  return above.at(-1)!;
}

/** Sinkhorn's steps in logarithms: uniform weights on both sides. */
function transported(costs: Tensor, regularization: number, steps: number): Tensor {
  const [rows, columns] = [costs.sizeOf(2), costs.sizeOf(3)];
  const scores = costs.div(-regularization);
  let left = scores.newZeros([...scores.shape.slice(0, 3)]);
  let right = left;
  for (let step = 0; step < steps; step++) {
    right = scores.add(left.unsqueeze(3)).logsumexp([2]).neg().sub(Math.log(columns));
    left = scores.add(right.unsqueeze(2)).logsumexp([3]).neg().sub(Math.log(rows));
  }
  const plan = scores.add(left.unsqueeze(3)).add(right.unsqueeze(2)).exp();
  return plan.mul(costs).sum([2, 3]);
}

/** What {@link scav} takes beside the sequences. */
export interface ScavOptions extends SequenceDistanceOptions {
  /** τ, by which distances are divided. Default 0.07. */
  temperature?: number | Tensor;
  reduction?: Reduction;
}

/**
 * SCAV (Tsiamas, Pascual, Yeh and Serrà 2024, "Sequential Contrastive Audio-Visual Learning"): the symmetric InfoNCE on distances between sequences,
 * which keeps what is when, as pooling does not. Another distance may be taken for retrieval.
 *
 *     Lᵢ = ½ ( −log( exp(−dᵢᵢ/τ) / Σⱼ exp(−dᵢⱼ/τ) ) − log( exp(−dᵢᵢ/τ) / Σⱼ exp(−dⱼᵢ/τ) ) )
 *
 * The loss is as the abstract and summaries describe it: distances between sequences, of these three kinds, normalised over rows and over columns.
 * The paper's own constants, and whether it takes frames to length one, could not be looked up. It is dense, see {@link sequenceDistances}.
 *
 * @param first [N, T, D], such as audio
 * @param second [N, S, D], such as video: row i belongs to row i
 * @returns the loss without dimensions, or [N] with reduction `'none'`; 0 for one pair
 * @throws InvalidArgumentError if shapes do not fit
 */
export function scav(first: Tensor, second: Tensor, options: ScavOptions = {}): Tensor {
  const { temperature = 0.07, reduction, ...about } = options;
  checkTemperature(temperature, 'scav');
  if (first.shape[0] !== second.shape[0]) {
    throw new InvalidArgumentError(
      `scav: first and second must hold as many sequences, found [${first.shape.join(', ')}] and [${second.shape.join(', ')}]`,
    );
  }
  return withoutAutocast(first, () => {
    const distances = sequenceDistances(first, second, about);
    const scale = typeof temperature === 'number' ? distances.newFull([], temperature) : temperature.reshape([]);
    const scores = distances.neg().div(scale);
    const labels = positionsOf(scores.sizeOf(0), scores);
    const own = scores.gather(1, labels.unsqueeze(1)).squeeze(1);
    return reduced(
      scores
        .logsumexp([1])
        .add(scores.logsumexp([0]))
        .div(2)
        .sub(own),
      reduction,
    );
  });
}
