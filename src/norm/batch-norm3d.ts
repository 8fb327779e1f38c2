import { InvalidArgumentError, type Tensor } from '../torch';
import { BatchNorm } from './batch-norm';

/** @throws InvalidArgumentError unless `x` is [N, C, D, H, W]. */
export function checkDimensions3d(x: Tensor, layer: string): void {
  if (x.ndim !== 5) {
    throw new InvalidArgumentError(`${layer}: expected [N, C, D, H, W], found shape [${x.shape.join(', ')}]`);
  }
}

/** {@link BatchNorm} for volumes or clips [N, C, D, H, W]. */
export class BatchNorm3d extends BatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions3d(x, this.constructor.name);
  }
}
