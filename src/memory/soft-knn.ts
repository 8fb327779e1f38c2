import { InvalidArgumentError, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';

import { functional } from '../nn';
import { positiveInteger } from '../nn/checks';
import { checkColumn, checkRows, positiveNumber } from './checks';
import { nearestRows, PART, wide } from './nearest';
import { RingBuffer, type EntryOptions, type GatherRows } from './ring-buffer';
import type { StoredDType } from './stored';
import { RingMemory } from './ring-memory';

/** What a {@link SoftKnn} is made from. */
export interface SoftKnnOptions {
  /** How many embeddings it holds. */
  size: number;
  /** The size D of an embedding. */
  dimension: number;
  /** k: how many neighbours vote. Default 200, as in the usual kNN evaluation. */
  k?: number;
  /** τ. Default 0.07, as in the usual kNN evaluation. */
  temperature?: number;
  /**
   * What becomes of an embedding with no neighbour of its own label: `'nearest'` (default): the nearest of its label votes as well; `'skip'`: its
   * loss is 0 and does not count in the mean. One whose label is nowhere in the memory is skipped in any case.
   */
  missing?: 'nearest' | 'skip';
  /** Whether entries have ids, by which an embedding's own copies are left out. Default false. */
  ids?: boolean;
  /** The type that embeddings are held in. Default `'float32'`. */
  dtype?: StoredDType;
  /** Default `'cpu'`. */
  device?: Device;
  /** Makes every rank's memory the same. Default: this rank's embeddings alone. */
  gather?: GatherRows;
}

/**
 * Leave-one-out k nearest neighbours, LOOK (Feng, Jiang, Tang, Jin and Gao 2022, "Rethinking Supervised Pre-training for Better Downstream
 * Transferring"): a labelled memory, and the loss of a weighted kNN classifier on it. Each embedding only has to share its label with most
 * of its neighbours, so that a class may keep several clusters.
 *
 *     lossᵢ = −log( Σ_{j of the k nearest, yⱼ = yᵢ} exp(sᵢⱼ/τ) / Σ_{j of the k nearest} exp(sᵢⱼ/τ) ),   s = cosine
 *
 * Not checked against the paper, whose formulas were not to be had: this is the weighted kNN classifier with leave-one-out error that its abstract
 * and summaries describe; k and τ are those of kNN evaluation. Which are nearest, and the memory, have no gradient; embeddings have. Enqueue after
 * the loss, or give ids, so that no embedding is its own neighbour.
 *
 * For supervised pre-training whose features shall transfer.
 */
export class SoftKnn extends RingMemory {
  readonly k: number;
  readonly temperature: number;
  readonly missing: 'nearest' | 'skip';

  constructor(options: SoftKnnOptions) {
    const { k = 200, temperature = 0.07, missing = 'nearest', ...rest } = options;
    positiveInteger(k, 'SoftKnn: k');
    positiveNumber(temperature, 'SoftKnn: temperature');
    super(new RingBuffer({ ...rest, labels: true }, 'SoftKnn'));
    this.k = k;
    this.temperature = temperature;
    this.missing = missing;
  }

  /** Adds embeddings [N, D] with their labels, int64 [N], as {@link RingBuffer.enqueue}. */
  enqueue(embeddings: Tensor, labels: Tensor, options: Omit<EntryOptions, 'labels'> = {}): void {
    this.buffer.enqueue(embeddings, { labels, ...options });
  }

  /**
   * The loss of a batch against the memory as it is; of fewer than k entries all vote.
   *
   * @param embeddings [N, D] of any floating-point dtype
   * @param labels int64 [N]
   * @param options `ids` int64 [N]: entries with an embedding's id are no neighbours of it; `reduction`: `'mean'` over those with a loss
   * (default), `'sum'`, or `'none'`
   * @returns the loss without dimensions, or [N]
   * @throws InvalidArgumentError if the memory is empty, or something does not fit
   */
  loss(
    embeddings: Tensor,
    labels: Tensor,
    { ids, reduction = 'mean' }: { ids?: Tensor; reduction?: 'mean' | 'sum' | 'none' } = {},
  ): Tensor {
    const buffer = this.buffer;
    this.#check(embeddings, labels, ids);
    return withoutAutocast(embeddings, () =>
      scope(() => {
        const [rows, allowed, agrees] = noGrad(() => this.#neighbours(embeddings.detach(), labels, ids));
        const neighbours = functional.normalize(
          wide(buffer.rows(rows.flatten())).view([...rows.shape, buffer.dimension]),
        );
        const x = functional.normalize(wide(embeddings));
        const dtype = x.dtype === 'float64' || neighbours.dtype === 'float64' ? 'float64' : 'float32';
        const scores = neighbours.to({ dtype }).matmul(x.to({ dtype }).unsqueeze(2)).squeeze(2).div(this.temperature);
        const has = agrees.any(1);
        const over = (which: Tensor): Tensor => scores.maskedFill(which.logicalNot(), -Infinity).logsumexp([1]);
        const losses = torch.where(has, over(allowed).sub(over(agrees)), scores.newZeros([]));
        if (reduction === 'none') return losses;
        return reduction === 'sum' ? losses.sum() : losses.sum().div(has.sum().clampMin(1));
      }),
    );
  }

  /** Rows of neighbours, which of them may vote, and which of those have the right label; [N, k], or [N, k + 1] with the nearest that agrees. */
  #neighbours(x: Tensor, labels: Tensor, ids: Tensor | undefined): readonly [Tensor, Tensor, Tensor] {
    const buffer = this.buffer;
    const entries = buffer.labels();
    const own = ids === undefined ? undefined : buffer.ids();
    const search = (k: number, onlyAgreeing: boolean): readonly [Tensor, Tensor] => {
      const { similarities, rows } = nearestRows(x, buffer.parts(PART), k, (tile, part) => {
        const across = (mine: Tensor, theirs: Tensor): Tensor =>
          mine
            .narrow(0, tile.from, tile.count)
            .unsqueeze(1)
            .eq(theirs.narrow(0, part.start, part.count).unsqueeze(0));
        const copies = ids === undefined ? null : across(ids, own!);
        if (!onlyAgreeing) return copies;
        const others = across(labels, entries).logicalNot();
        return copies === null ? others : others.logicalOr(copies);
      });
      return [rows, similarities.gt(-Infinity)];
    };
    const [rows, allowed] = search(Math.min(this.k, buffer.filled), false);
    const agrees = entries.indexSelect(0, rows.flatten()).view(rows.shape).eq(labels.unsqueeze(1)).logicalAnd(allowed);
    const lacks = agrees.any(1).logicalNot();
    if (this.missing === 'skip' || Number(lacks.sum().itemSync()) === 0) return [rows, allowed, agrees];
    const [nearest, found] = search(1, true);
    const joins = found.logicalAnd(lacks.unsqueeze(1));
    return [torch.cat([rows, nearest], 1), torch.cat([allowed, joins], 1), torch.cat([agrees, joins], 1)];
  }

  #check(embeddings: Tensor, labels: Tensor, ids: Tensor | undefined): void {
    const { filled, device, dimension } = this.buffer;
    if (filled === 0) throw new InvalidArgumentError('SoftKnn: the memory is empty; enqueue embeddings first');
    checkRows(embeddings, dimension, device, 'SoftKnn', 'embeddings');
    const count = embeddings.sizeOf(0);
    if (count === 0) throw new InvalidArgumentError('SoftKnn: there are no embeddings');
    checkColumn(labels, [count], 'int64', device, 'SoftKnn', 'labels');
    if (ids !== undefined) {
      checkColumn(ids, [count], 'int64', device, 'SoftKnn', 'ids');
      this.buffer.ids();
    }
  }
}
