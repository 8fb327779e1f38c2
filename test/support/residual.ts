import { Generator, noGrad, torch } from '../../src/torch';
import type { AnyModule } from '../../src/nn';

/** What `fill` in test/golden/residual.py does: values that only the seed decides, in the order of the state dict. */
export function fill(module: AnyModule, seed: number): void {
  const generator = new Generator({ seed });
  noGrad(() => {
    for (const [name, tensor] of module.stateDict()) {
      if (name.endsWith('num_batches_tracked')) continue;
      const values = torch.randn(tensor.shape, { generator });
      const [, channels = 1, height = 1, width = 1] = tensor.shape;
      if (tensor.ndim === 4) tensor.copy_(values.mul(Math.sqrt(2 / (channels * height * width))));
      else if (name.endsWith('running_var') || (name.endsWith('weight') && tensor.ndim === 1)) {
        tensor.copy_(values.abs().mul(0.1).add(1));
      } else tensor.copy_(values.mul(0.1));
    }
  });
}
