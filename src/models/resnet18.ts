import { scope, type Generator, type Tensor } from '../torch';
import { normFactory2d, WeightStandardizedConv2d, type Norm2d } from '../norm';
import { Conv2d, MaxPool2d, Module, Sequential } from '../nn';
import { BasicBlock } from './basic-block';
import type { Encoder } from './encoder';
import { startConvolutions } from './residual-encoder';

/** What a {@link ResNet18} is made from. */
export interface ResNet18Options {
  /** Channels of the images. Default 3. */
  inChannels?: number;
  /**
   * Whether the images are small (28 to 64 pixels): the first convolution is then 3×3 with stride 1 and nothing is pooled after
   * it, instead of 7×7 with stride 2 and a maximum over 3×3. Default false.
   */
  smallImage?: boolean;
  /** The normalisation, by name (`'group'`, `{ name: 'split', splits: 4 }`) or by a function that makes it. Default `'batch'`. */
  norm?: Norm2d;
  /** Whether the convolutions' filters are standardised: {@link WeightStandardizedConv2d}. Default false. */
  weightStandardized?: boolean;
  /** Where the starting values come from. Default: the CPU's default generator. */
  generator?: Generator;
}

/**
 * The residual network of 18 layers (He et al. 2016) up to the mean over the image, without a classifier:
 * [N, inChannels, H, W] to [N, 512]. State names are torchvision's.
 */
export class ResNet18 extends Module implements Encoder {
  readonly conv1: Conv2d;
  readonly bn1: Module;
  readonly maxpool: MaxPool2d | null;
  readonly layer1: Sequential;
  readonly layer2: Sequential;
  readonly layer3: Sequential;
  readonly layer4: Sequential;
  readonly outputSize = 512;

  constructor(options: ResNet18Options = {}) {
    super();
    const { inChannels = 3, smallImage = false, weightStandardized = false, generator } = options;
    const norm = normFactory2d(options.norm ?? 'batch');
    const Convolution = weightStandardized ? WeightStandardizedConv2d : Conv2d;
    const stem = smallImage ? { kernelSize: 3, stride: 1, padding: 1 } : { kernelSize: 7, stride: 2, padding: 3 };
    this.conv1 = new Convolution({ inChannels, outChannels: 64, ...stem, bias: false, generator });
    this.bn1 = norm(64);
    this.maxpool = smallImage ? null : new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 });
    const shared = { norm, weightStandardized, generator };
    const layer = (from: number, to: number, stride: number) =>
      new Sequential(
        new BasicBlock({ inChannels: from, outChannels: to, stride, ...shared }),
        new BasicBlock({ inChannels: to, outChannels: to, ...shared }),
      );
    this.layer1 = layer(64, 64, 1);
    this.layer2 = layer(64, 128, 2);
    this.layer3 = layer(128, 256, 2);
    this.layer4 = layer(256, 512, 2);
    startConvolutions(this, generator);
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      let image = scope(() => {
        const stem = this.bn1.forward(this.conv1.forward(x)).relu_();
        return this.maxpool === null ? stem : this.maxpool.forward(stem);
      });
      for (const layer of [this.layer1, this.layer2, this.layer3, this.layer4]) image = layer.forward(image);
      return image.mean([2, 3]);
    });
  }
}
