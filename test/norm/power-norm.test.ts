import assert from 'node:assert/strict';
import { PowerNorm } from '../../src/norm/power-norm';
import { grad, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { channelValues, meanOf } from './channel-values';

const dtype = 'float64';
const eps = 1e-5;
const images = (scale = 2): Tensor => torch.randn([3, 2, 2, 3], { dtype, device }).mul(scale).add(1);
const make = (options: Partial<ConstructorParameters<typeof PowerNorm>[0]> = {}): PowerNorm =>
  new PowerNorm({ features: 2, warmUp: 3, device, dtype, ...options });

/** A step by plain numbers, forward and backward by the authors' definition. */
class ByHand {
  phi = [1, 1];
  nu = [0, 0];
  count = 0;

  constructor(
    readonly weight: number[],
    readonly bias: number[],
    readonly keep: number,
    readonly keepBackward: number,
    readonly warmUp: number,
  ) {}

  step(x: number[][], gradient: number[][]) {
    this.count++;
    return x.map((values, c) => {
      const own = meanOf(values.map((value) => value ** 2));
      const used = this.count <= this.warmUp ? own : this.phi[c]!;
      const z = values.map((value) => value / Math.sqrt(used + eps));
      if (this.count < this.warmUp) {
        this.phi[c] = (this.phi[c]! * (this.count - 1)) / this.count + own / this.count;
      }
      this.phi[c] = this.keep * this.phi[c]! + (1 - this.keep) * own;
      const g = gradient[c]!.map((value) => value * this.weight[c]!);
      const d = g.map((value, i) => value - (1 - this.keepBackward) * this.nu[c]! * z[i]!);
      this.nu[c] = this.nu[c]! + meanOf(d.map((value, i) => value * z[i]!));
      return {
        y: z.map((value) => value * this.weight[c]! + this.bias[c]!),
        dx: d.map((value) => value / Math.sqrt(own + eps)),
        dWeight: gradient[c]!.reduce((sum, value, i) => sum + value * z[i]!, 0),
        dBias: gradient[c]!.reduce((sum, value) => sum + value, 0),
      };
    });
  }
}

describe('PowerNorm', () => {
  for (const format of ['contiguous_format', 'channels_last'] as const) {
    it(`is the definition, forward and backward, through the warm-up and after (${format})`, () => {
      const layer = make({ momentum: 0.2, backwardMomentum: 0.3 });
      layer.weight!.setData(torch.tensor([0.5, 2], { dtype, device }));
      layer.bias!.setData(torch.tensor([1, -1], { dtype, device }));
      const hand = new ByHand([0.5, 2], [1, -1], 0.8, 0.7, 3);
      for (let step = 0; step < 6; step++) {
        const x = images().contiguous({ memoryFormat: format }).requiresGrad_();
        const gradient = torch.randn([3, 2, 2, 3], { dtype, device }).add(0.3);
        const expected = hand.step(channelValues(x), channelValues(gradient));
        const y = layer.forward(x);
        assert.ok(y.isContiguous(format));
        const found = grad(y, [x, layer.weight!, layer.bias!], { gradOutputs: [gradient] }) as [Tensor, Tensor, Tensor];
        const close = (actual: number[][] | number[], values: number[][] | number[], what: string): void =>
          assertClose(
            torch.tensor(actual, { dtype }),
            torch.tensor(values, { dtype }),
            { atol: 1e-10 },
            `${what}, ${step}`,
          );
        close(channelValues(y), expected.map((channel) => channel.y), 'y'); // prettier-ignore
        close(channelValues(found[0]), expected.map((channel) => channel.dx), 'dx'); // prettier-ignore
        close(numbers(found[1]), expected.map((channel) => channel.dWeight), 'dγ'); // prettier-ignore
        close(numbers(found[2]), expected.map((channel) => channel.dBias), 'dβ'); // prettier-ignore
        close(numbers(layer.runningPhi), hand.phi, 'φ');
        close(numbers(layer.emaGz), hand.nu, 'ν');
      }
    });
  }

  it('takes vectors, sequences and channels last alike', () => {
    const x = torch.randn([4, 5, 2], { dtype, device });
    const [last, first, flat] = [make({ channels: 'last' }), make(), make()];
    for (let step = 0; step < 5; step++) {
      const y = last.forward(x);
      assertClose(first.forward(x.transpose(1, 2)).transpose(1, 2), y, { atol: 1e-10 });
      assertClose(flat.forward(x.reshape([20, 2])).view([4, 5, 2]), y, { atol: 1e-10 });
    }
    assertClose(last.eval().forward(x), first.eval().forward(x.transpose(1, 2)).transpose(1, 2), { atol: 1e-10 });
  });

  it('uses the running quadratic mean in evaluation, and changes nothing there', () => {
    const layer = make({ affine: false, nonFinite: 'raise' });
    for (let step = 0; step < 4; step++) layer.forward(images());
    const before = numbers(layer.runningPhi);
    const x = images();
    const expected = channelValues(x).map((values, c) => values.map((value) => value / Math.sqrt(before[c]! + eps)));
    assertClose(torch.tensor(channelValues(layer.eval().forward(x)), { dtype }), torch.tensor(expected, { dtype }), {
      atol: 1e-10,
    });
    assert.deepEqual(numbers(layer.runningPhi), before);
    assert.throws(() => layer.forward(torch.full([1, 2], NaN, { dtype, device })), /PowerNorm.*NaN/);
  });

  it('divides by the root mean square of groups of channels first, on request', () => {
    const x = torch.randn([3, 4, 5], { dtype, device });
    const grouped = new PowerNorm({ features: 4, groupScaling: 2, device, dtype });
    const plain = new PowerNorm({ features: 4, device, dtype });
    const square = x.square();
    const halves = [0, 2].map((start) => square.narrow(1, start, 2).mean([1], true).add(eps).sqrt());
    const scaled = torch.cat([x.narrow(1, 0, 2).div(halves[0]!), x.narrow(1, 2, 2).div(halves[1]!)], 1);
    assertClose(grouped.forward(x), plain.forward(scaled), { atol: 1e-10 });
    const last = new PowerNorm({ features: 4, groupScaling: 2, channels: 'last', device, dtype });
    assertClose(last.forward(x.transpose(1, 2)).transpose(1, 2), grouped.eval().train().forward(x), { atol: 1e-10 });
  });

  it('works in bfloat16, without gradients of the input, and after to()', () => {
    const layer = make({ dtype: 'float32' });
    const x = images().to({ dtype: 'bfloat16' }).requiresGrad_();
    const y = layer.forward(x);
    assert.equal(y.dtype, 'bfloat16');
    y.sum().backward();
    assert.equal(x.grad!.dtype, 'bfloat16');
    layer.forward(x.detach()).sum().backward();
    assert.ok(layer.weight!.grad !== null);
    assert.equal(layer.to('float64').forward(images()).dtype, 'float64');
  });

  it('goes on bit for bit from a state dict', () => {
    const [a, b] = [make(), make()];
    const train = (layer: PowerNorm, x: Tensor): Tensor => {
      const y = layer.forward(x);
      y.square().sum().backward();
      return y;
    };
    for (let step = 0; step < 4; step++) train(a, images());
    b.loadStateDict(a.stateDict());
    const x = images();
    assertClose(train(b, x), train(a, x), { atol: 0, rtol: 0 });
    for (const [name, tensor] of a.stateDict())
      assertClose(b.stateDict().get(name)!, tensor, { atol: 0, rtol: 0 }, name);
    assert.deepEqual([...a.stateDict().keys()], ['weight', 'bias', 'running_phi', 'ema_gz', 'num_batches_tracked']);
  });

  it('refuses what does not fit', () => {
    assert.throws(() => make({ groupScaling: 3 }), /2 channels do not divide into groupScaling 3/);
    assert.throws(() => make({ momentum: 2 }), /PowerNorm: momentum/);
    assert.throws(
      () => make().forward(torch.zeros([4, 3], { dtype, device })),
      /expected \[N, 2, …\].*found shape \[4, 3\]/,
    );
    assert.throws(() => make({ channels: 'last' }).forward(torch.zeros([0, 2], { dtype, device })), /not empty/);
  });
});
