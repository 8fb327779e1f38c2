/** TransMix: the share of each image in a CutMix by attention. */
import { InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { checkDevice, checkNumber, widened } from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';
import { boxMask, checkInputs, type Box } from './mix';

/** What {@link transMixShares} takes beside the attention. */
export interface TransMixOptions {
  /** Height and width of the images that were mixed, in pixels. */
  imageSize: readonly [height: number, width: number];
  /** The rectangle that was pasted. */
  box: Box;
  /** Rows and columns of patches. Default: a square. */
  grid?: readonly [rows: number, columns: number];
  /** How much the area counts beside attention, in [0, 1]. Default 0.5, as in the authors' code; the paper's formula has 0, by memory. */
  area?: number;
}

/**
 * TransMix (Chen, Sun, He, Torr, Yuille and Bai 2022, "TransMix: Attend to Mix for Vision Transformers"): the label of a CutMix is shared by where
 * the class token looks, not by area:
 *
 *     pasted share = A·↓(M) / Σ A,   λ = 1 − [ (1 − area)·pasted share + area·|M|/(H·W) ]
 *
 * A is the class token's attention to the patches in the last layer, the mean over heads, M the pasted rectangle, ↓ taking the nearest pixel for
 * each patch. Checked against the authors' code, which takes the mean of both shares.
 *
 * For supervised training of vision transformers with CutMix, in place of the area's share.
 *
 * @param attention [N, P], not negative: of the mixed images to their P patches, row by row; detached here
 * @returns [N]: the share λ of each image itself, float32 or float64; its partner has 1 − λ
 * @throws InvalidArgumentError if the grid does not fit the patches, or a number makes no sense
 */
export function transMixShares(attention: Tensor, options: TransMixOptions): Tensor {
  const { imageSize, box, area = 0.5 } = options;
  checkEmbeddings(attention, 'transMixShares: attention');
  checkNumber(area, 'transMixShares: area', { high: 1 });
  const patches = attention.sizeOf(1);
  const side = Math.round(Math.sqrt(patches));
  const [rows, columns] = options.grid ?? [side, side];
  if (rows * columns !== patches) {
    throw new InvalidArgumentError(`transMixShares: a grid of ${rows} by ${columns} does not have ${patches} patches`);
  }
  const [height, width] = imageSize;
  const fits = 0 <= box.top && box.top <= box.bottom && box.bottom <= height;
  if (!fits || !(0 <= box.left && box.left <= box.right && box.right <= width)) {
    throw new InvalidArgumentError(`transMixShares: the box does not lie in an image of ${height} by ${width}`);
  }
  return withoutAutocast(attention, () =>
    noGrad(() =>
      scope(() => {
        const [weights] = widened(attention.detach());
        const mask = boxMask(box, height, width, weights).to({ dtype: weights.dtype });
        const small = torch.upsampleNearest2d(mask.view([1, 1, height, width]), [rows, columns]).flatten();
        const pasted = weights.matmul(small).div(weights.sum([1]));
        const part = ((box.bottom - box.top) * (box.right - box.left)) / (height * width);
        return pasted.mul(area - 1).add(1 - area * part);
      }),
    ),
  );
}

/**
 * Targets of mixes: λ·onehot(yᵢ) + (1 − λ)·onehot(y_partner), from targets that are rows of probabilities already.
 *
 * @param targets [N, C]
 * @param partners int64 [N]
 * @param lambda [N]
 */
export function mixTargets(targets: Tensor, partners: Tensor, lambda: Tensor): Tensor {
  checkInputs(targets, 'mixTargets: targets', 2);
  checkDevice(partners, targets, 'mixTargets: partners');
  checkDevice(lambda, targets, 'mixTargets: lambda');
  return targets.indexSelect(0, partners).lerp(targets, lambda.to({ dtype: targets.dtype }).unsqueeze(1));
}
