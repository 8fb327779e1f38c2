import type { Case } from '../../harness/case';
import { ours } from '../gpu-contrast/case';

/** A million pairs in one call, of which there are 10¹² scores. */
export const benchmark: Case = {
  name: 'gpu-contrast-large',
  title: 'symmetric InfoNCE over a million pairs in one call on a GPU, forward and backward',
  unit: 'step',
  rounds: 1,
  warmup: 0,
  tasks: [
    {
      name: 'bfloat16, N = 1048576',
      options: { dtype: 'bfloat16', count: 1_048_576, dimension: 512, temperature: 0.07 },
    },
  ],
  implementations: [{ name: 'fused', launch: () => ours('require') }],
  reference: 'fused',
  tolerance: { relative: 1e-3, absolute: 1e-5 },
  goals: [],
};
