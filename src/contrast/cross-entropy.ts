/** The cross-entropy of a linear layer, without its logits. */
import { InvalidArgumentError, torch, type Tensor } from '../torch';
import { softplus } from './logarithms';
import { withoutAutocast } from '../torch/autograd';
import { numberWithin } from '../nn/checks';
import { chooseExecution } from './execution';
import { checkEmbeddings } from './similarity';
import { pairStatistics, type Execution, type Statistic } from './statistics';

/** What {@link linearCrossEntropy} takes. */
export interface LinearCrossEntropyOptions {
  /** b, [C]: added to the classes' logits, with or without gradient. It costs a copy of both matrices. Default: nothing. */
  bias?: Tensor;
  /** τ, by which logits are divided: a number, or a tensor of one element that may learn. Default 1. */
  temperature?: number | Tensor;
  /** The target of rows that have no loss. Default −100, as in PyTorch. */
  ignoreIndex?: number;
  /** ε, the share of the target that is spread evenly over all classes, its own included, as in PyTorch: in [0, 1]. Default 0. */
  labelSmoothing?: number;
  /** c: adds c·(log Σ exp)² to each loss, which keeps logits near 0. In [0, ∞); 1e-4 is usual. Default 0. */
  zLoss?: number;
  /**
   * In [0, 1): a tile of the logits' gradient is left out where no class has a share of a row's gradient above this, as the paper does with
   * 2⁻¹², which bfloat16 cannot tell from nothing. Quicker where few classes are likely; not with label smoothing, whose gradient is small
   * and everywhere. The dense form takes no notice. Default 0: exact.
   */
  gradientFilter?: number;
  /** `'mean'` over the rows that are not ignored (default; 0 if all are), `'sum'`, or `'none'` for one loss a row, 0 for ignored ones. */
  reduction?: 'mean' | 'sum' | 'none';
  /** Whether to hold the N×C logits or to go through them tile by tile. Default: by size. */
  execution?: Execution | 'auto';
}

/**
 * The cross-entropy of the logits of a linear layer, or of scores against a bank, without holding the N×C logits (Wijmans et al. 2024, "Cut
 * Your Losses in Large-Vocabulary Language Models"):
 *
 *     sᵢⱼ = (embeddingᵢ·classⱼ + bⱼ) / τ
 *     lossᵢ = log Σⱼ exp(sᵢⱼ) − (1 − ε)·sᵢᵧ − ε/C · Σⱼ sᵢⱼ + c·(log Σⱼ exp(sᵢⱼ))²,  y the target of i
 *
 * The same as PyTorch's cross-entropy of these logits, with gradients for embeddings and classes. It is exact, unless
 * {@link LinearCrossEntropyOptions.gradientFilter} lets it skip what is small. Tile by tile, memory grows with N and C and not
 * with N·C. Logits are float32, or float64 if an input is, also where autocast would choose a shorter type. Ignored rows cost nothing.
 * There is no soft cap of the logits: it is a function of each pair.
 *
 * For vocabularies, large sets of classes, and instance discrimination against a bank.
 *
 * @param embeddings [N, D], floating-point
 * @param classes [C, D], floating-point: the layer's weight, or a bank
 * @param targets int64 [N]: a class from 0 to C − 1, or `ignoreIndex`
 * @throws InvalidArgumentError if shapes, dtypes or devices do not fit, or a target is no class
 */
export function linearCrossEntropy(
  embeddings: Tensor,
  classes: Tensor,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const { ignoreIndex = -100, labelSmoothing = 0, zLoss = 0, reduction = 'mean', execution = 'auto' } = options;
  check(embeddings, classes, targets, options);
  const dtype = [embeddings, classes].some((x) => x.dtype === 'float64') ? 'float64' : 'float32';
  return withoutAutocast(embeddings, () => {
    const counted = targets.ne(ignoreIndex);
    const count = counted.sum().itemSync();
    const isWhole = count === targets.numel();
    if (count === 0) return finish(nothing(embeddings, classes, options, dtype), 0, reduction);
    const places = isWhole ? null : counted.nonzero().squeeze(1);
    const of = (x: Tensor): Tensor => (places === null ? x : x.indexSelect(0, places));
    const losses = lossesOf(of(embeddings).to({ dtype }), classes.to({ dtype }), of(targets), {
      ...options,
      labelSmoothing,
      zLoss,
      execution,
    });
    if (places === null || reduction !== 'none') return finish(losses, count, reduction);
    return losses.newZeros([targets.numel()]).indexAdd(0, places, losses);
  });
}

function lossesOf(
  embeddings: Tensor,
  classes: Tensor,
  targets: Tensor,
  options: Pick<LinearCrossEntropyOptions, 'bias' | 'temperature' | 'gradientFilter'> & {
    labelSmoothing: number;
    zLoss: number;
    execution: Execution | 'auto';
  },
): Tensor {
  const { bias, temperature = 1, gradientFilter = 0, labelSmoothing, zLoss } = options;
  const { dtype } = embeddings;
  const rows = embeddings.sizeOf(0);
  const columns = classes.sizeOf(0);
  const { execution } = chooseExecution(embeddings, columns, options.execution);
  // e·c + b is a dot product of vectors that are longer by one.
  const [left, right] =
    bias === undefined
      ? [embeddings, classes]
      : [
          torch.cat([embeddings, embeddings.newOnes([rows, 1])], 1),
          torch.cat([classes, bias.to({ dtype }).unsqueeze(1)], 1),
        ];
  const divisor = typeof temperature === 'number' ? temperature : temperature.to({ dtype }).reshape([]);
  const wanted: Statistic[] = [
    { kind: 'logSumExp', over: 'negatives' },
    { kind: 'sum', over: 'positives' },
    ...(labelSmoothing === 0 ? [] : [{ kind: 'sum', over: 'all' } as const]),
  ];
  const [others, own, sum] = pairStatistics(
    {
      rows: divisor === 1 ? left : left.div(divisor),
      columns: right,
      rowLabels: targets,
      columnLabels: torch.arange(columns, { dtype: 'int64', device: targets.device }),
      gradientFilter,
    },
    wanted,
    execution,
  );
  // log Σ exp less the target's logit: what is small is not lost in a difference of large numbers.
  const base = softplus(others!.sub(own!));
  let losses = base;
  if (sum !== undefined) losses = losses.add(own!.sub(sum.div(columns)).mul(labelSmoothing));
  if (zLoss !== 0) losses = losses.add(base.add(own!).square().mul(zLoss));
  return losses;
}

/** No loss for any row, with gradients of 0 as sums over no element have them. */
function nothing(
  embeddings: Tensor,
  classes: Tensor,
  { bias, temperature }: LinearCrossEntropyOptions,
  dtype: 'float32' | 'float64',
): Tensor {
  const given = [embeddings, classes, bias, temperature].filter((x) => typeof x === 'object');
  const sums = given.map((x) => x.reshape([-1]).narrow(0, 0, 0).sum().to({ dtype }));
  return sums.reduce((a, b) => a.add(b)).expand([embeddings.sizeOf(0)]);
}

function finish(losses: Tensor, count: number, reduction: 'mean' | 'sum' | 'none'): Tensor {
  if (reduction === 'none') return losses;
  const sum = losses.sum();
  return reduction === 'sum' ? sum : sum.div(Math.max(count, 1));
}

function check(embeddings: Tensor, classes: Tensor, targets: Tensor, options: LinearCrossEntropyOptions): void {
  const name = 'linearCrossEntropy';
  const { bias, temperature = 1, ignoreIndex = -100, labelSmoothing = 0, zLoss = 0, gradientFilter = 0 } = options;
  checkEmbeddings(embeddings, `${name}: embeddings`);
  const [rows, dimension] = embeddings.shape as readonly [number, number];
  checkEmbeddings(classes, `${name}: classes`, dimension);
  const columns = classes.sizeOf(0);
  for (const [what, tensor, shape] of [
    ['targets', targets, rows],
    ['bias', bias, columns],
  ] as const) {
    if (tensor !== undefined && (tensor.ndim !== 1 || tensor.sizeOf(0) !== shape)) {
      throw new InvalidArgumentError(`${name}: ${what}: expected shape [${shape}], found [${tensor.shape.join(', ')}]`);
    }
  }
  if (targets.dtype !== 'int64') {
    throw new InvalidArgumentError(`${name}: targets must be int64, found ${targets.dtype}`);
  }
  for (const [what, tensor] of Object.entries({ classes, targets, bias })) {
    if (tensor !== undefined && tensor.device !== embeddings.device) {
      throw new InvalidArgumentError(
        `${name}: the embeddings are on ${embeddings.device}, ${what} on ${tensor.device}; move one`,
      );
    }
  }
  if (typeof temperature === 'number' ? !(temperature > 0 && temperature < Infinity) : temperature.numel() !== 1) {
    throw new InvalidArgumentError(`${name}: temperature must be a positive number or a tensor of one element`);
  }
  numberWithin(0, 1, labelSmoothing, `${name}: labelSmoothing`);
  if (!Number.isFinite(numberWithin(0, Infinity, zLoss, `${name}: zLoss`))) {
    throw new InvalidArgumentError(`${name}: zLoss must be finite`);
  }
  if (!(gradientFilter >= 0 && gradientFilter < 1)) {
    throw new InvalidArgumentError(`${name}: gradientFilter must be in [0, 1), found ${gradientFilter}`);
  }
  if (gradientFilter > 0 && labelSmoothing > 0) {
    throw new InvalidArgumentError(`${name}: gradientFilter would leave out what labelSmoothing adds; use one of them`);
  }
  if (!Number.isSafeInteger(ignoreIndex)) {
    throw new InvalidArgumentError(`${name}: ignoreIndex must be an integer, found ${String(ignoreIndex)}`);
  }
  const wrong = targets.ne(ignoreIndex).logicalAnd(targets.lt(0).logicalOr(targets.ge(columns)));
  if (wrong.any().itemSync()) {
    throw new InvalidArgumentError(
      `${name}: a target must be a class from 0 to ${columns - 1} or ignoreIndex (${ignoreIndex}); ` +
        `found ${String(targets.maskedSelect(wrong).at(0).itemSync())}`,
    );
  }
}
