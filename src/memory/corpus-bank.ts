import { Generator, InvalidArgumentError, keep, noGrad, scope, torch, type Device, type Tensor } from '../torch';
import type { JsonObject } from '../torch/state';
import { functional } from '../nn';
import { positiveInteger } from '../nn/checks';
import { checkPositions, checkRows } from './checks';
import { wide } from './nearest';
import type { MemoryCandidates } from './ring-buffer';
import { decode, encode, storedDType, type StoredDType } from './stored';
import { TensorStore } from './tensor-store';

/** What a {@link CorpusBank} is made from. */
export interface CorpusBankOptions {
  /** The whole corpus, [n, D], or its batches one after the other, which need not be in memory together before they are stored. */
  embeddings: Tensor | Iterable<Tensor>;
  /** Whether embeddings are brought to length one. Default true. */
  normalize?: boolean;
  /** The type that they are held in. Default `'float32'`. */
  dtype?: StoredDType;
  /** Default: the embeddings' own. */
  device?: Device;
  /** Seeds the drawing of negatives. Default 0. */
  seed?: number;
}

/** Negatives of some queries. */
export interface DrawnNegatives {
  /** [N, K, D] */
  embeddings: Tensor;
  /** Rows of the corpus, int64 [N, K]. */
  rows: Tensor;
}

/** Random numbers that are held at once. */
const CHUNK = 1 << 22;

/**
 * A frozen bank of a whole corpus (the second stage of SPN4CIR: Feng, Zhang and Nie 2024, "Improving Composed Image Retrieval via Contrastive
 * Learning with Scaling Positives and Negatives"): every target is encoded once, its tower is frozen, and queries are trained against all of
 * them.
 *
 *     lossᵢ = −log( exp(qᵢ·v_{tᵢ}/τ) / Σ_{j of the corpus} exp(qᵢ·vⱼ/τ) ),   τ = 0.01 in the authors' code
 *
 * ```ts
 * const loss = contrast({ anchors: queries, labels: targets, candidates: bank.candidates(), temperature: 0.01 });
 * ```
 *
 * or against some negatives of each query's own, 1,024 in the authors' code, drawn without the target and without repetition:
 * `contrast({ anchors: queries, positives: bank.rows(targets), negatives: bank.draw(targets, 1024).embeddings })`. Both were checked
 * against that code. Nothing in the bank has a gradient or changes. What is larger than memory belongs into a {@link MappedBank}.
 *
 * For retrieval whose target side is good already, where batches are too small to hold hard negatives.
 */
export class CorpusBank extends TensorStore {
  readonly size: number;
  readonly dimension: number;
  readonly dtype: StoredDType;
  readonly #values: Tensor;
  readonly #scales: Tensor | null;
  readonly #generator: Generator;

  constructor(options: CorpusBankOptions) {
    super();
    const { embeddings, normalize = true, dtype = 'float32', device, seed = 0 } = options;
    const what = 'CorpusBank';
    this.dtype = storedDType(dtype, `${what}: embeddings`);
    this.#generator = new Generator({ seed });
    const batches = Symbol.iterator in embeddings && !('shape' in embeddings) ? embeddings : [embeddings as Tensor];
    const [values, scales] = noGrad(() =>
      scope(() => {
        const parts: { values: Tensor; scales: Tensor | null }[] = [];
        let dimension: number | undefined;
        for (const batch of batches) {
          checkRows(batch, dimension ?? (batch.ndim === 2 ? batch.sizeOf(1) : 1), undefined, what, 'embeddings');
          dimension = batch.sizeOf(1);
          parts.push(
            scope(() => {
              const x = normalize ? functional.normalize(wide(batch)) : batch;
              return encode(device === undefined ? x : x.to({ device }), this.dtype);
            }),
          );
        }
        if (parts.length === 0) throw new InvalidArgumentError(`${what}: there are no embeddings`);
        const scales = parts.map((part) => part.scales).filter((part) => part !== null);
        // A single part may be the caller's own memory.
        const joined = parts.length === 1 ? parts[0]!.values.clone() : torch.cat(parts.map((part) => part.values));
        return [keep(joined), scales.length === 0 ? null : keep(torch.cat(scales))] as const;
      }),
    );
    this.#values = values;
    this.#scales = scales;
    this.size = values.sizeOf(0);
    this.dimension = values.sizeOf(1);
    if (values.numel() === 0) throw new InvalidArgumentError(`${what}: there are no embeddings`);
  }

  /** All embeddings, [n, D]: a view; for int8 a copy in float32. */
  entries(): Tensor {
    return noGrad(() => scope(() => decode({ values: this.#values, scales: this.#scales }).detach()));
  }

  /** Some embeddings, [N, D]. @param rows int64 [N], from 0 to n − 1 */
  rows(rows: Tensor): Tensor {
    checkPositions(rows, this.size, this.device, 'CorpusBank', { noun: 'rows' });
    return this.#rows(rows);
  }

  /** All embeddings with their rows as labels, as `contrast` takes them. */
  candidates(): MemoryCandidates {
    return {
      embeddings: this.entries(),
      labels: torch.arange(this.size, { dtype: 'int64', device: this.device }),
    };
  }

  /**
   * Negatives of each query's own, drawn uniformly from the rest of the corpus, none twice. Takes O(N · n) random numbers. Drawn on the CPU, so that
   * they are the same on every device.
   *
   * @param targets each query's positive, int64 [N]
   * @param count K, at most n − 1
   * @throws InvalidArgumentError if there are not so many, or targets are out of range
   */
  draw(targets: Tensor, count: number): DrawnNegatives {
    const what = 'CorpusBank';
    checkPositions(targets, this.size, this.device, what, { noun: 'targets' });
    positiveInteger(count, `${what}: count`);
    if (count > this.size - 1) {
      throw new InvalidArgumentError(`${what}: ${count} negatives were asked for, and there are ${this.size - 1}`);
    }
    return noGrad(() =>
      scope(() => {
        const queries = targets.sizeOf(0);
        const tile = Math.max(1, Math.floor(CHUNK / this.size));
        const parts: Tensor[] = [torch.empty([0, count], { dtype: 'int64' })];
        for (let from = 0; from < queries; from += tile) {
          const some = Math.min(tile, queries - from);
          parts.push(
            scope(() => {
              const keys = torch.rand([some, this.size - 1], { generator: this.#generator, dtype: 'float64' });
              return keys.topk(count, 1)[1];
            }),
          );
        }
        const drawn = torch.cat(parts).to({ device: this.device });
        // Of the n − 1 others: those from the target on lie one further.
        const rows = drawn.add(drawn.ge(targets.unsqueeze(1)).to('int64'));
        return { embeddings: this.#rows(rows.flatten()).view([queries, count, this.dimension]), rows };
      }),
    );
  }

  protected override get stored(): Readonly<Record<string, Tensor | null>> {
    return { embeddings: this.#values, scales: this.#scales };
  }

  protected override get randomness(): Generator {
    return this.#generator;
  }

  protected override get settings(): JsonObject {
    return { dtype: this.dtype };
  }

  #rows(rows: Tensor): Tensor {
    return noGrad(() =>
      scope(() =>
        decode({
          values: this.#values.indexSelect(0, rows),
          scales: this.#scales === null ? null : this.#scales.indexSelect(0, rows),
        }),
      ),
    );
  }
}
