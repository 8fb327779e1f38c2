/** What miners of a batch share: the batch, its distances, and which pairs are positive. */
import { functional } from '../../nn';
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import type { TripletIndices } from './pairs-and-triplets';

/**
 * How far two embeddings are apart: ‖a − b‖, ‖a − b‖², 1 − cosine, or minus the dot product. The smaller, the more alike.
 */
export type MinerDistance = 'euclidean' | 'squaredEuclidean' | 'cosine' | 'dot';

/** What is mined. */
export interface MinerBatch {
  /** [N, D], of any floating-point dtype: each row is an anchor. No gradients flow. */
  embeddings: Tensor;
  /** int64 [N]: rows of one label are positives of each other. */
  labels?: Tensor;
  /** What anchors are compared with. Default: the batch itself, in which no row is its own positive or negative. */
  reference?: { embeddings: Tensor; labels?: Tensor };
  /** bool [N, M]: which rows are positives of each anchor, in place of labels. */
  positives?: Tensor;
  /** bool [N, M]: which rows are negatives of each anchor. Default: all that are not positives, nor the anchor itself. */
  negatives?: Tensor;
}

/** How a miner measures. */
export interface MinerOptions {
  /** Default: `'euclidean'`. */
  distance?: MinerDistance;
  /** Whether embeddings are first brought to length one. Default: true. */
  normalize?: boolean;
}

/** A batch made ready: embeddings that are at least float32, and which pairs are what. */
export interface Prepared {
  /** [N, D] */
  anchors: Tensor;
  /** [M, D] */
  others: Tensor;
  /** bool [N, M] */
  positives: Tensor;
  /** bool [N, M] */
  negatives: Tensor;
}

/** Numbers that are held at once, beside the distances of the batch. */
const AT_ONCE = 1 << 22;

const DISTANCES: readonly string[] = ['euclidean', 'squaredEuclidean', 'cosine', 'dot'] satisfies MinerDistance[];

/**
 * Checks a batch and mines it, without gradients.
 *
 * @param what the miner's name, for messages
 * @throws InvalidArgumentError naming what does not fit
 */
export function mined<T>(batch: MinerBatch, options: MinerOptions, what: string, mine: (prepared: Prepared) => T): T {
  const { distance = 'euclidean', normalize = true } = options;
  checkBatch(batch, what);
  if (!DISTANCES.includes(distance)) {
    throw new InvalidArgumentError(`${what}: distance must be one of ${DISTANCES.join(', ')}, found '${distance}'`);
  }
  return withoutAutocast(batch.embeddings, () =>
    noGrad(() =>
      scope(() => {
        const reference = batch.reference?.embeddings;
        const dtype = [batch.embeddings, reference].some((x) => x?.dtype === 'float64') ? 'float64' : 'float32';
        const ready = (x: Tensor): Tensor => {
          const wide = x.detach().to({ dtype });
          return normalize || distance === 'cosine' ? functional.normalize(wide) : wide;
        };
        const anchors = ready(batch.embeddings);
        const others = reference === undefined ? anchors : ready(reference);
        return mine({ anchors, others, ...relations(batch) });
      }),
    ),
  );
}

/** All distances, [N, M], of embeddings that {@link mined} made ready. */
export function distancesOf({ anchors, others }: Prepared, { distance = 'euclidean' }: MinerOptions): Tensor {
  if (distance === 'dot') return anchors.matmul(others.t()).neg_();
  if (distance === 'cosine') return anchors.matmul(others.t()).neg_().add_(1);
  const lengths = torch.cdist(anchors, others);
  return distance === 'euclidean' ? lengths : lengths.square_();
}

/** Rows and columns of a mask's true entries, row after row. */
export function whereTrue(mask: Tensor): [rows: Tensor, columns: Tensor] {
  const found = mask.nonzero();
  return [found.select(1, 0).contiguous(), found.select(1, 1).contiguous()];
}

/**
 * The triplets of all positive pairs for which a condition holds, in the order of anchors, positives and negatives. A tile of pairs
 * at a time: the triplets need not fit into memory, only those that are kept.
 *
 * @param isWanted of some positive pairs, anchors and positives [T], which rows make a triplet: bool [T, M]
 */
export function tripletsWhere(
  { positives, negatives }: Prepared,
  isWanted: (anchors: Tensor, positives: Tensor) => Tensor,
): TripletIndices {
  const [anchors, others] = whereTrue(positives);
  const tile = Math.max(1, Math.floor(AT_ONCE / Math.max(1, negatives.sizeOf(1))));
  const none = anchors.newEmpty([0]);
  const parts: TripletIndices[] = [{ anchors: none, positives: none, negatives: none }];
  for (let from = 0; from < anchors.numel(); from += tile) {
    const count = Math.min(tile, anchors.numel() - from);
    parts.push(
      scope(() => {
        const [a, p] = [anchors.narrow(0, from, count), others.narrow(0, from, count)];
        const [pair, n] = whereTrue(isWanted(a, p).logicalAnd(negatives.indexSelect(0, a)));
        return { anchors: a.indexSelect(0, pair), positives: p.indexSelect(0, pair), negatives: n };
      }),
    );
  }
  const join = (name: keyof TripletIndices): Tensor => torch.cat(parts.map((part) => part[name]));
  return { anchors: join('anchors'), positives: join('positives'), negatives: join('negatives') };
}

/** The elements [T] of a matrix at rows and columns [T]. */
export function elements(matrix: Tensor, rows: Tensor, columns: Tensor): Tensor {
  return matrix.take(rows.mul(matrix.sizeOf(1)).add(columns));
}

function relations({ embeddings, labels, reference, ...given }: MinerBatch): Pick<Prepared, 'positives' | 'negatives'> {
  const count = embeddings.sizeOf(0);
  const isSelf = reference === undefined ? torch.eye(count, { dtype: 'bool', device: embeddings.device }) : undefined;
  const withoutSelf = (mask: Tensor): Tensor => (isSelf === undefined ? mask : mask.logicalAnd(isSelf.logicalNot()));
  const columns = reference === undefined ? labels : reference.labels;
  const positive = given.positives ?? labels!.unsqueeze(1).eq(columns!.unsqueeze(0));
  return { positives: withoutSelf(positive), negatives: withoutSelf(given.negatives ?? positive.logicalNot()) };
}

function checkBatch({ embeddings, labels, reference, ...masks }: MinerBatch, what: string): void {
  checkMatrix(embeddings, `${what}: embeddings`);
  const { device } = embeddings;
  const others = reference?.embeddings ?? embeddings;
  if (reference !== undefined) {
    checkMatrix(others, `${what}: reference.embeddings`);
    if (others.sizeOf(1) !== embeddings.sizeOf(1)) {
      throw new InvalidArgumentError(
        `${what}: reference.embeddings must have ${embeddings.sizeOf(1)} columns, found ${others.sizeOf(1)}`,
      );
    }
  }
  const [count, columns] = [embeddings.sizeOf(0), others.sizeOf(0)];
  if (masks.positives === undefined) {
    if (labels === undefined || (reference !== undefined && reference.labels === undefined)) {
      const missing = labels === undefined ? 'labels' : 'reference.labels';
      throw new InvalidArgumentError(`${what}: give ${missing}, or positives`);
    }
    checkTensor(labels, [count], 'int64', `${what}: labels`);
    if (reference !== undefined) checkTensor(reference.labels!, [columns], 'int64', `${what}: reference.labels`);
  }
  for (const name of ['positives', 'negatives'] as const) {
    const mask = masks[name];
    if (mask !== undefined) checkTensor(mask, [count, columns], 'bool', `${what}: ${name}`);
  }
  for (const [name, tensor] of Object.entries({
    labels,
    ...masks,
    reference: others,
    'reference.labels': reference?.labels,
  })) {
    if (tensor !== undefined && tensor.device !== device) {
      throw new InvalidArgumentError(`${what}: embeddings are on ${device}, ${name} on ${tensor.device}; move one`);
    }
  }
}

/** @throws InvalidArgumentError naming `what` unless it is floating-point [N, D] with N and D at least 1 */
export function checkMatrix(x: Tensor, what: string): void {
  if (x.ndim !== 2 || !x.isFloatingPoint() || x.shape.includes(0)) {
    throw new InvalidArgumentError(
      `${what} must be floating-point [N, D] with N and D at least 1, found ${x.dtype} [${x.shape.join(', ')}]`,
    );
  }
}

/** @throws InvalidArgumentError naming `what` unless it has this shape and dtype */
export function checkTensor(x: Tensor, shape: readonly number[], dtype: string, what: string): void {
  if (x.dtype !== dtype || x.shape.join() !== shape.join()) {
    throw new InvalidArgumentError(
      `${what} must be ${dtype} [${shape.join(', ')}], found ${x.dtype} [${x.shape.join(', ')}]`,
    );
  }
}
