/** The method and its optimiser, from the recipe: shared by what prepares the case and by kontrast's side of it. */
import { MoCo, ProjectionHead, ResidualEncoder } from '../../../src/models';
import { AdamW, risingMomentum } from '../../../src/optim';
import type { MemoryFormat } from '../../../src/torch';
import { recipe } from './recipe';

/** Names of what `prepare.ts` writes into the shared folder. */
export const files = { state: 'state.safetensors', views: 'views.bin' };

/** The method before the first step; its starting values depend on the default generator. */
export function makeMoCo(memoryFormat: MemoryFormat = 'contiguous_format'): MoCo {
  const { widths, stemStride, poolSize, embeddingSize, queueSize, temperature, momentum } = recipe;
  const { splits, symmetric, inBatchNegatives } = recipe;
  return new MoCo({
    encoder: ({ norm2d }) => new ResidualEncoder({ inChannels: 1, widths, stemStride, poolSize, norm: norm2d }),
    head: (inputSize, { norm1d }) => new ProjectionHead({ inputSize, outputSize: embeddingSize, norm: norm1d }),
    queueSize,
    temperature,
    momentum: risingMomentum({ limit: momentum }),
    splits,
    symmetric,
    inBatchNegatives,
    memoryFormat,
  });
}

/** The optimiser as the quickstart has it: only weights decay. */
export function makeOptimizer(moco: MoCo): AdamW {
  const { learningRate: lr, weightDecay } = recipe;
  const parameters = moco.parameters();
  return new AdamW(
    [
      { parameters: parameters.filter(({ ndim }) => ndim > 1), weightDecay },
      { parameters: parameters.filter(({ ndim }) => ndim <= 1), weightDecay: 0 },
    ],
    { lr },
  );
}
