/** Batch norms that see a batch in chunks and normalise it by the statistics of the whole. */
import { enableGrad, grad, InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { inScope, openScope } from '../torch/scope';
import type { AnyModule } from '../nn';
import type { BatchNorm } from '../norm';
import { countBatch, moveStatistics } from '../norm/operators';
import { batchDependentNorms, isPlainBatchNorm } from '../norm/uses-batch';

/** What runs an encoder on the chunks of a batch. */
export interface ChunkRunner {
  readonly encoder: AnyModule;
  readonly chunks: number;
  /** Called each time before the chunks are gone through: puts back what they changed. */
  rewind(): void;
  /** Runs the encoder on a chunk: with the same random numbers each time, in the grad mode that it finds. */
  encode(chunk: number): Tensor;
}

/** A mean and a biased variance, [C] each. */
interface Moments {
  readonly mean: Tensor;
  readonly variance: Tensor;
}

/** The moments of a chunk, float64, over so many values a channel. */
interface ChunkMoments extends Moments {
  readonly norm: BatchNorm;
  readonly count: number;
}

/** One call of a batch norm in a forward pass, with the moments of the whole batch there. */
interface Site extends ChunkMoments {
  /** The loss's gradients by the moments, through all that follows; null before they are known. */
  slopes: Moments | null;
}

/** Ends a forward pass at the call that is measured. */
class Reached extends Error {
  constructor(readonly moments: ChunkMoments) {
    super();
  }
}

/**
 * An encoder on the chunks of a batch whose batch norms give what they would give on the whole batch, values and gradients.
 *
 * The statistics at a batch norm depend on those before it, on all chunks. So they are found call by call, each by a pass over the chunks
 * up to that call. Backwards they are treated as inputs: first the loss's gradient by the statistics of the last call is found; then,
 * through these, that of the call before; each by a pass over the chunks from that call on. With n calls this takes n + 1 passes
 * forwards, half as long on average, and n + 1 forwards and backwards. Memory is that of one chunk.
 */
export class WholeBatchNorm {
  readonly #runner: ChunkRunner;
  readonly #sites: Site[] = [];

  /** @throws InvalidArgumentError for norms that take more of the batch than its mean and variance, or groups of it */
  constructor(runner: ChunkRunner) {
    const other = batchDependentNorms(runner.encoder).find((norm) => !isPlainBatchNorm(norm));
    if (other !== undefined) {
      throw new InvalidArgumentError(
        `gradCache: ${other.constructor.name} takes something else of the batch than its mean and variance, which chunks cannot be ` +
          "put together for; with batchNorm 'exact' use plain batch norms, or batchNorm 'chunk', which normalises chunk by chunk",
      );
    }
    this.#runner = runner;
  }

  /** Finds the statistics. @returns the embeddings of the chunks, without a graph */
  measure(): Tensor[] {
    for (;;) {
      const results = noGrad(() => this.#sweep((chunk) => this.#measureChunk(chunk)));
      const [outputs, moments] = [results.map(({ output }) => output), results.map((result) => result.moments)];
      if (outputs.every((output) => output !== null)) return outputs;
      if (!moments.every((one) => one !== null) || moments.some(({ norm }) => norm !== moments[0]!.norm)) {
        throw wentAnotherWay('in some chunks');
      }
      this.#sites.push({ ...noGrad(() => scope(() => whole(moments))), slopes: null });
    }
  }

  /**
   * @param gradientOf the loss's gradient by a chunk's embeddings
   * @param backward is called for each chunk with its embeddings and its share of the loss, to first order: the share's `backward()` gives
   * the chunk's part of the parameters' gradients
   * @returns what it gave
   */
  backward<T>(
    gradientOf: (chunk: number) => Tensor,
    backward: (chunk: number, output: Tensor, share: Tensor) => T,
  ): T[] {
    for (let call = this.#sites.length - 1; call >= 0; call--) {
      const site = this.#sites[call]!;
      const parts = this.#sweep((chunk) => {
        const [mean, variance] = [site.mean, site.variance].map((x) => x.detach().requiresGrad_()) as [Tensor, Tensor];
        const { share } = this.#share(chunk, gradientOf(chunk), call, { mean, variance });
        const [byMean, byVariance] = withoutAutocast(share, () => grad(share, [mean, variance], { allowUnused: true }));
        return { mean: byMean ?? torch.zerosLike(mean), variance: byVariance ?? torch.zerosLike(mean) };
      });
      const sum = (of: (part: Moments) => Tensor): Tensor => scope(() => torch.stack(parts.map(of)).sum([0]));
      site.slopes = { mean: sum(({ mean }) => mean), variance: sum(({ variance }) => variance) };
    }
    return this.#sweep((chunk) => {
      const { output, share } = this.#share(chunk, gradientOf(chunk), -1, null);
      return backward(chunk, output, share);
    });
  }

  /** Moves the running statistics as one forward pass of the whole batch does. */
  updateRunning(): void {
    noGrad(() =>
      scope(() => {
        for (const { norm, count, mean, variance } of this.#sites) {
          const { training, numBatchesTracked } = norm;
          if (!training || numBatchesTracked === null) continue;
          const momentum = countBatch(numBatchesTracked, norm.momentum);
          moveStatistics(norm, { mean, variance, factor: count / (count - 1) }, momentum);
        }
      }),
    );
  }

  #sweep<T>(visit: (chunk: number) => T): T[] {
    this.#runner.rewind();
    return Array.from({ length: this.#runner.chunks }, (_, chunk) => scope(() => visit(chunk)));
  }

  /** A chunk's embeddings; or its moments at the first call whose statistics are not known yet. */
  #measureChunk(chunk: number): { output: Tensor | null; moments: ChunkMoments | null } {
    const outlive = outliving();
    try {
      const output = this.#encode(chunk, (norm, x, call) => {
        if (call === this.#sites.length) throw new Reached(outlive(() => momentsOf(norm, x)));
        return normalized(norm, x, this.#siteAt(call, norm));
      });
      return { output, moments: null };
    } catch (error) {
      if (error instanceof Reached) return { output: null, moments: error.moments };
      throw error;
    }
  }

  /**
   * A chunk's embeddings and its share of the loss, to first order: through the embeddings, and through the statistics of later calls.
   *
   * @param from the call to differentiate by, whose statistics are `at`; −1 for all calls, to differentiate by the parameters
   */
  #share(chunk: number, gradient: Tensor, from: number, at: Moments | null): { output: Tensor; share: Tensor } {
    return enableGrad(() => {
      const terms: Tensor[] = [];
      const outlive = outliving();
      const output = this.#encode(chunk, (norm, x, call) => {
        const site = this.#siteAt(call, norm);
        if (at !== null && call === from) return normalized(norm, x.detach(), at);
        if (call > from) {
          const { mean, variance } = site.slopes!;
          const term = outlive(() => {
            const centred = wide(x).sub(across(site.mean, x));
            // The variance moves with the mean as well, but over the whole batch that comes to 0.
            const slope = centred.mul(across(variance, x)).add(across(mean, x));
            return centred.mul(slope).sum().div(site.count);
          });
          terms.push(term);
        }
        return normalized(norm, x, site);
      });
      const own = wide(output).mul(wide(gradient)).sum();
      return { output, share: terms.reduce((sum, term) => sum.add(term), own) };
    });
  }

  #siteAt(call: number, norm: BatchNorm): Site {
    const site = this.#sites[call];
    if (site?.norm !== norm) throw wentAnotherWay('the second time');
    return site;
  }

  #encode(chunk: number, visit: (norm: BatchNorm, x: Tensor, call: number) => Tensor): Tensor {
    const norms = batchDependentNorms(this.#runner.encoder) as BatchNorm[];
    let calls = 0;
    try {
      // A property of the object hides the class's method until it is deleted.
      for (const norm of norms) norm.forward = (x) => visit(norm, x, calls++);
      return this.#runner.encode(chunk);
    } finally {
      for (const norm of norms) delete (norm as Partial<BatchNorm>).forward;
    }
  }
}

function wentAnotherWay(when: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `gradCache: ${when} the encoder called other batch norms; with batchNorm 'exact' all chunks must go the same way each time`,
  );
}

/** Makes results join the scope that is open now, also from within the scopes that modules open for themselves. */
function outliving(): <T>(body: () => T) => T {
  const home = openScope();
  return (body) => inScope(home, () => scope(body));
}

function wide(x: Tensor): Tensor {
  return x.to({ dtype: x.dtype === 'float64' ? 'float64' : 'float32' });
}

/** A number a channel, to be combined with `wide(x)`, [N, C, …]. */
function across(channels: Tensor, x: Tensor): Tensor {
  const shape = x.shape.map((_, dimension) => (dimension === 1 ? -1 : 1));
  return channels.to({ dtype: x.dtype === 'float64' ? 'float64' : 'float32' }).reshape(shape);
}

function momentsOf(norm: BatchNorm, x: Tensor): ChunkMoments {
  if (x.ndim < 2 || x.sizeOf(1) !== norm.features) {
    throw new InvalidArgumentError(
      `${norm.constructor.name}: expected ${norm.features} channels, found an input of shape [${x.shape.join(', ')}]`,
    );
  }
  const others = x.shape.flatMap((_, dimension) => (dimension === 1 ? [] : [dimension]));
  const values = wide(x);
  const mean = values.mean(others, true);
  const variance = values.sub(mean).square().mean(others);
  return {
    norm,
    count: x.numel() / norm.features,
    mean: mean.reshape([-1]).to('float64'),
    variance: variance.to('float64'),
  };
}

/** The moments of the chunks taken together. */
function whole(chunks: readonly ChunkMoments[]): ChunkMoments {
  const { norm, mean: first } = chunks[0]!;
  const count = chunks.reduce((sum, chunk) => sum + chunk.count, 0);
  if (count < 2) {
    throw new InvalidArgumentError(
      `${norm.constructor.name}: training needs more than one value a channel; use a larger batch, or eval()`,
    );
  }
  const shares = torch
    .tensor(
      chunks.map((chunk) => chunk.count / count),
      { dtype: 'float64', device: first.device },
    )
    .unsqueeze(1);
  const means = torch.stack(chunks.map(({ mean }) => mean));
  const mean = means.mul(shares).sum([0]);
  const variances = torch.stack(chunks.map(({ variance }) => variance)).add(means.sub(mean).square());
  return { norm, count, mean, variance: variances.mul(shares).sum([0]) };
}

function normalized(norm: BatchNorm, x: Tensor, { mean, variance }: Moments): Tensor {
  const scale = across(variance, x).add(norm.eps).rsqrt();
  const y = wide(x).sub(across(mean, x)).mul(scale);
  const scaled = norm.weight === null ? y : y.mul(across(norm.weight, x));
  const shifted = norm.bias === null ? scaled : scaled.add(across(norm.bias, x));
  return shifted.to({ dtype: x.dtype });
}
