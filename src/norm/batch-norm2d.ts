import { InvalidArgumentError, type Tensor } from '../torch';
import { BatchNorm } from './batch-norm';

/** @throws InvalidArgumentError unless `x` is [N, C, H, W]. */
export function checkDimensions2d(x: Tensor, layer: string): void {
  if (x.ndim !== 4) {
    throw new InvalidArgumentError(`${layer}: expected [N, C, H, W], found shape [${x.shape.join(', ')}]`);
  }
}

/** {@link BatchNorm} for images [N, C, H, W]. */
export class BatchNorm2d extends BatchNorm {
  protected override checkDimensions(x: Tensor): void {
    checkDimensions2d(x, this.constructor.name);
  }
}
