import { scope, type Generator, type Tensor } from '../torch';
import { BatchNorm2d } from '../norm';
import { Conv2d, MaxPool2d, Module, Sequential } from '../nn';
import { BasicBlock } from './basic-block';
import type { Encoder, NormFactory } from './encoder';
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
  /** Makes the normalisation layers. Default: {@link BatchNorm2d}. */
  norm?: NormFactory;
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
    const { inChannels = 3, smallImage = false, generator } = options;
    const { norm = (features: number) => new BatchNorm2d({ features }) } = options;
    const stem = smallImage ? { kernelSize: 3, stride: 1, padding: 1 } : { kernelSize: 7, stride: 2, padding: 3 };
    this.conv1 = new Conv2d({ inChannels, outChannels: 64, ...stem, bias: false, generator });
    this.bn1 = norm(64);
    this.maxpool = smallImage ? null : new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 });
    const layer = (from: number, to: number, stride: number) =>
      new Sequential(
        new BasicBlock({ inChannels: from, outChannels: to, stride, norm, generator }),
        new BasicBlock({ inChannels: to, outChannels: to, norm, generator }),
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
