import { InvalidArgumentError, noGrad, torch, type Device, type DType, type Tensor } from '../torch';
import { Module, Parameter } from '../nn';

/** What {@link LogitScale} is made from. */
export interface LogitScaleOptions {
  /** The temperature to start from. Default 0.07, as in CLIP; SigLIP starts from 0.1. */
  temperature?: number;
  /** The most that the scale, 1 / temperature, may become. Default 100, as in CLIP; `Infinity` for no limit. */
  maximum?: number;
  /** The bias to start from, −10 in SigLIP. Default: there is none. */
  bias?: number;
  /** Default `'cpu'`. */
  device?: Device;
  /** Default `'float32'`. */
  dtype?: DType;
}

/**
 * A temperature that learns, by way of the logarithm of its inverse, and for sigmoid objectives a bias that learns.
 *
 * ```ts
 * const scale = new LogitScale();
 * const loss = clip(images, texts, { temperature: scale.temperature() });
 * ```
 *
 * The scale is brought back to its maximum whenever it is read, and not by a function in the graph: a limit in the graph would have no
 * gradient beyond it, and what once got there would stay. Keep weight decay off these parameters. In state dicts they are
 * `logit_scale` and `logit_bias`, without dimensions, as in OpenCLIP.
 */
export class LogitScale extends Module {
  readonly maximum: number;
  /** log(1 / temperature), without dimensions. */
  readonly logitScale: Parameter;
  /** Without dimensions, or null. */
  readonly logitBias: Parameter | null;

  constructor(options: LogitScaleOptions = {}) {
    super();
    const { temperature = 0.07, maximum = 100, bias, device = 'cpu', dtype = 'float32' } = options;
    if (!(temperature > 0 && temperature < Infinity)) {
      throw new InvalidArgumentError(`LogitScale: temperature must be a positive number, found ${String(temperature)}`);
    }
    if (!(maximum >= 1 / temperature)) {
      throw new InvalidArgumentError(
        `LogitScale: maximum must be 1 / temperature (${1 / temperature}) or more, found ${String(maximum)}`,
      );
    }
    if (bias !== undefined && !Number.isFinite(bias)) {
      throw new InvalidArgumentError(`LogitScale: bias must be a number, found ${String(bias)}`);
    }
    this.maximum = maximum;
    this.logitScale = new Parameter(torch.full([], -Math.log(temperature), { device, dtype }));
    this.logitBias = bias === undefined ? null : new Parameter(torch.full([], bias, { device, dtype }));
  }

  /** The temperature, without dimensions, through which the scale learns. */
  temperature(): Tensor {
    this.#limit();
    return this.logitScale.neg().exp();
  }

  /** The bias, without dimensions, or undefined. */
  bias(): Tensor | undefined {
    return this.logitBias ?? undefined;
  }

  /** Similarities of any shape, times the scale and with the bias added: logits. */
  override forward(similarities: Tensor): Tensor {
    this.#limit();
    const logits = similarities.mul(this.logitScale.exp());
    return this.logitBias === null ? logits : logits.add(this.logitBias);
  }

  #limit(): void {
    if (this.maximum === Infinity) return;
    noGrad(() => {
      this.logitScale.clampMax_(Math.log(this.maximum)).dispose();
    });
  }
}
