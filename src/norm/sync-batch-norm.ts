import {
  InvalidArgumentError,
  defineFunction,
  isGradEnabled,
  noGrad,
  scope,
  torch,
  type FunctionContext,
  type Tensor,
} from '../torch';
import { BatchNorm, type BatchNormOptions } from './batch-norm';
import {
  gradientRow,
  joinBatch,
  joinedGradient,
  joinRows,
  normalizeBy,
  statisticsRow,
  type JoinedBatch,
} from './operators';

/**
 * How the parts of a batch, mostly one a process, tell one another their statistics. Every part must call the same operations in
 * the same order: once in a training forward pass, once in its backward pass. None waits for a part that does not call.
 */
export interface StatisticsExchange {
  /** The rows of all parts, [parts, R], in an order that is the same for all, given this part's row [R] (float64). */
  allGather(row: Tensor): Tensor;
  /** The elementwise sum of what all parts give, [R] (float64); bit for bit the same for all. */
  allReduce(values: Tensor): Tensor;
}

/** What synchronised batch normalisation is made from. */
export interface SyncBatchNormOptions extends BatchNormOptions {
  /** How the parts of the batch exchange statistics. Default null: this process has the whole batch. */
  exchange?: StatisticsExchange | null;
}

/** Statistics of a batch: a channel's mean and its sum of squared differences from the mean (M2). */
export interface JoinedStatistics {
  /** How many values a channel there are, no dimensions. */
  count: Tensor;
  /** [C]; 0 where there are no values. */
  mean: Tensor;
  /** [C]. */
  m2: Tensor;
}

/**
 * The statistics of a batch from those of its parts: n = Σ nᵢ, mean = Σ nᵢ/n · meanᵢ, M2 = Σ M2ᵢ + Σ nᵢ (meanᵢ − mean)². No squares
 * of values are subtracted from one another, so nothing cancels, however large the mean; the sums run in the order of the rows,
 * so equal rows give equal results, bit for bit.
 *
 * @param rows [parts, 1 + 2C], float64: nᵢ, the means, the M2s; a part without values gives zeros
 */
export function joinStatistics(rows: Tensor): JoinedStatistics {
  const [count, mean, m2] = joinRows(rows);
  return { count, mean, m2 };
}

/**
 * Batch normalisation over a batch whose parts lie in several processes, for x [N, C, …]: each part is normalised by the
 * statistics of the whole batch, and its gradient takes account of how these depend on all parts. The parts may differ in size, and
 * may be empty. Outputs and gradients of the inputs are those of {@link BatchNorm} over the joined batch, as are the running
 * statistics; the gradients of γ and β are the part's own, to be summed over the parts like those of all other parameters.
 * Evaluation, parameters and state are those of {@link BatchNorm}; without an exchange it is one.
 *
 * The counts travel with the statistics, in float64 and without a wait for the device. A second derivative through an exchange is
 * refused.
 *
 * For batches that are small on each device; in contrastive learning also so that a device's statistics do not tell its samples.
 *
 * Ioffe and Szegedy 2015 over all devices, as in Zhang et al. 2018, Context Encoding for Semantic Segmentation; joining by Chan,
 * Golub and LeVeque 1979, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances.
 */
export class SyncBatchNorm extends BatchNorm {
  readonly exchange: StatisticsExchange | null;

  constructor(options: SyncBatchNormOptions) {
    super(options);
    this.exchange = options.exchange ?? null;
  }

  protected override checkDimensions(x: Tensor): void {
    if (x.ndim < 2) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: expected [N, C, …], found shape [${x.shape.join(', ')}]`,
      );
    }
  }

  /** @throws InvalidArgumentError as {@link BatchNorm}, where a batch of one value a channel is the joined one */
  override forward(x: Tensor): Tensor {
    const { exchange } = this;
    if (exchange === null || !(this.training || this.runningMean === null)) return super.forward(x);
    this.checkInput(x);
    return scope(() => {
      const joined = noGrad(() => this.#joined(x, exchange));
      return normalizeJoined(x, this.weight, this.bias, joined, this.eps, exchange);
    });
  }

  /** The statistics of the joined batch in the dtype of the layer; moves the running ones in training. */
  #joined(x: Tensor, exchange: StatisticsExchange): JoinedBatch {
    const { eps } = this;
    const dtype = this.runningMean?.dtype ?? this.weight?.dtype ?? (x.dtype === 'float64' ? 'float64' : 'float32');
    const rows = exchange.allGather(statisticsRow(x));
    if (rows.ndim !== 2 || rows.sizeOf(1) !== 1 + 2 * this.features) {
      throw new InvalidArgumentError(
        `${this.constructor.name}: allGather gave [${rows.shape.join(', ')}], expected [parts, ${1 + 2 * this.features}]`,
      );
    }
    // Only a part this small can belong to a joined batch that is too small, so only it waits for the count.
    if (x.numel() / x.sizeOf(1) < 2 && rows.select(1, 0).sum().itemSync() < 2) {
      this.checkValues(x.shape, 'this part of the batch');
    }
    return joinBatch(rows, this, { momentum: this.countBatch(), eps, dtype });
  }
}

const normalizeJoined = defineFunction({
  name: 'syncBatchNorm',
  forward(
    context: FunctionContext<{ exchange: StatisticsExchange; hasBias: boolean }>,
    x: Tensor,
    weight: Tensor | null,
    bias: Tensor | null,
    { count, mean, variance, inverse }: JoinedBatch,
    eps: number,
    exchange: StatisticsExchange,
  ) {
    context.state = { exchange, hasBias: bias !== null };
    context.save(x, mean, inverse, count, ...(weight === null ? [] : [weight]));
    if (x.numel() === 0) return torch.emptyLike(x);
    return normalizeBy(x, weight, bias, { mean, variance, ownMean: mean }, [x.sizeOf(0)], eps);
  },
  backward(context, gradient) {
    if (isGradEnabled()) {
      throw new InvalidArgumentError(
        'SyncBatchNorm: gradients of gradients do not pass an exchange; leave out createGraph',
      );
    }
    const { exchange, hasBias } = context.state;
    const [x, mean, inverse, count, weight = null] = context.saved as [Tensor, Tensor, Tensor, Tensor, Tensor?];
    const scale = { count, mean, inverse, weight };
    const [row, byWeight, byBias] = gradientRow(gradient, x, scale);
    const byInput = context.needsGradient[0] ? joinedGradient(gradient, x, scale, exchange.allReduce(row)) : null;
    return [byInput, weight && byWeight, hasBias ? byBias : null];
  },
});
