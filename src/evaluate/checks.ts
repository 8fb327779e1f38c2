/** Checks that the evaluations share. */
import { dispose, scope, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';

/** @throws InvalidArgumentError unless features are finite floating point [N, D], N ≥ 1, of the width, dtype and device of `like` */
export function checkFeatures(name: string, features: Tensor, like?: Tensor): void {
  const found = `${features.dtype} [${features.shape.join(', ')}] on ${features.device}`;
  if (features.ndim !== 2 || features.shape[0] === 0 || !/^b?float(16|32|64)$/.test(features.dtype)) {
    throw new InvalidArgumentError(
      `The ${name} features must be floating point [N, D] with at least one row, not ${found}.`,
    );
  }
  if (
    like &&
    (features.shape[1] !== like.shape[1] || features.dtype !== like.dtype || features.device !== like.device)
  ) {
    throw new InvalidArgumentError(
      `The ${name} features are ${found}, but must be ${like.dtype} [N, ${like.shape[1]}] on ${like.device} as the others.`,
    );
  }
  const finite = scope(() => features.isfinite().all().itemSync());
  if (!finite)
    throw new InvalidArgumentError(
      `The ${name} features hold NaN or infinite values: look at the encoder that made them.`,
    );
}

/** @throws InvalidArgumentError unless features fit (see {@link checkFeatures}) and labels are int64 [N] from 0 to `classes` − 1 */
export function checkLabelled(name: string, features: Tensor, labels: Tensor, classes: number, like?: Tensor): void {
  checkFeatures(name, features, like);
  const count = features.shape[0];
  if (labels.dtype !== 'int64' || labels.ndim !== 1 || labels.shape[0] !== count || labels.device !== features.device) {
    throw new InvalidArgumentError(
      `The ${name} labels must be int64 [${count}] on ${features.device}, not ${labels.dtype} ` +
        `[${labels.shape.join(', ')}] on ${labels.device}.`,
    );
  }
  const extremes = [labels.min(), labels.max()];
  const [low, high] = extremes.map((extreme) => extreme.itemSync());
  dispose(...extremes);
  if (!Number.isSafeInteger(classes) || low < 0 || high >= classes) {
    throw new InvalidArgumentError(`The ${name} labels run from ${low} to ${high}, but there are ${classes} classes.`);
  }
}
