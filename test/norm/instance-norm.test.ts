import assert from 'node:assert/strict';
import { gradcheck, torch } from '../../src/torch';
import { InstanceNorm1d } from '../../src/norm/instance-norm1d';
import { InstanceNorm2d } from '../../src/norm/instance-norm2d';
import { InstanceNorm3d } from '../../src/norm/instance-norm3d';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const double = { device, dtype: 'float64' } as const;

describe('InstanceNorm1d, InstanceNorm2d and InstanceNorm3d', () => {
  const kinds = { 3: InstanceNorm1d, 4: InstanceNorm2d, 5: InstanceNorm3d } as const;
  for (const shape of [
    [3, 2, 7],
    [1, 2, 5, 3],
    [2, 2, 1, 3, 2],
  ]) {
    it(`equals a loop over channels of samples: [${shape.join(', ')}]`, () => {
      const layer = new kinds[shape.length as 3 | 4 | 5]({ features: 2, affine: true, eps: 1e-3, ...double });
      layer.weight!.detach().copy_(torch.tensor([0.5, -2], double));
      layer.bias!.detach().copy_(torch.tensor([1, 3], double));
      const x = torch.randn(shape, double).add(1);
      const values = numbers(x);
      const size = shape.slice(2).reduce((product, side) => product * side, 1);
      const expected = values.map((value, index) => {
        const map = values.slice(index - (index % size), index - (index % size) + size);
        const mean = map.reduce((a, b) => a + b) / size;
        const variance = map.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
        const channel = Math.floor(index / size) % 2;
        return ((value - mean) / Math.sqrt(variance + 1e-3)) * [0.5, -2][channel]! + [1, 3][channel]!;
      });
      assertClose(layer.forward(x), torch.tensor(expected, double).view(shape), { atol: 1e-10 });
      assertClose(layer.eval().forward(x), torch.tensor(expected, double).view(shape), { atol: 1e-10 });
    });
  }

  it("has PyTorch's output and running statistics in training and evaluation", () => {
    const layer = new InstanceNorm1d({ features: 2, affine: true, trackRunningStats: true, momentum: 0.25, ...double });
    layer.weight!.detach().copy_(torch.tensor([2, -1], double));
    layer.bias!.detach().copy_(torch.tensor([0.5, 3], double));
    const x = torch.tensor([1, 2, 4, 0, -1, 3, 5, 5, 8, 2, 2, -7], double).view([2, 2, 3]);
    // Made by PyTorch 2.13: nn.InstanceNorm1d(2, affine=True, track_running_stats=True, momentum=0.25, dtype=torch.float64).
    const trained = [
      -1.6380830629005954, -0.03452076572514917, 3.172603828625743, 3.3922315914145855, 3.9805789785364643,
      1.6271894300489498, -0.9142100268524478, -0.9142100268524478, 3.3284200537048942, 2.292893415231921,
      2.292893415231921, 4.414213169536159,
    ];
    const evaluated = [
      0.4299862429055412, 2.110316413172547, 5.470976753706559, 2.9807121019203326, 3.4436216558323522,
      1.5919834401842745, 7.151306923973565, 7.151306923973565, 12.192297434774582, 2.054892994096294,
      2.054892994096294, 6.221078979304468,
    ];
    const tolerance = { atol: 1e-12, rtol: 1e-12 };
    assertClose(layer.forward(x).flatten(), torch.tensor(trained, double), tolerance);
    assertClose(layer.runningMean!, torch.tensor([1.0416666666666667, -0.041666666666666664], double), tolerance);
    assertClose(layer.runningVar!, torch.tensor([1.4166666666666667, 4.666666666666667], double), tolerance);
    assertClose(layer.eval().forward(x).flatten(), torch.tensor(evaluated, double), tolerance);
  });

  it('keeps the plain mean over batches without momentum, and resumes bit for bit', () => {
    const options = { features: 2, trackRunningStats: true, momentum: null, ...double };
    const layer = new InstanceNorm2d(options);
    const batches = [0, 1, 2].map(() => torch.randn([3, 2, 4, 4], double));
    layer.forward(batches[0]!);
    layer.forward(batches[1]!);
    const resumed = new InstanceNorm2d(options);
    resumed.loadStateDict(layer.stateDict());
    layer.forward(batches[2]!);
    resumed.forward(batches[2]!);
    const all = torch.stack(batches).mean([0, 1, 3, 4]);
    assertClose(layer.runningMean!, all, { atol: 1e-12 });
    for (const [name, tensor] of layer.stateDict())
      assert.deepEqual(numbers(resumed.stateDict().get(name)!), numbers(tensor));
  });

  it('passes the finite-difference check', () => {
    const layer = new InstanceNorm2d({ features: 2, affine: true, trackRunningStats: true, ...double });
    const x = torch.randn([2, 2, 2, 3], double).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
    layer.eval();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
  });

  it('does not cancel where the mean is large', () => {
    const x = torch.randn([3, 4, 7, 9], double).mul(0.1);
    const layer = new InstanceNorm2d({ features: 4, eps: 0, ...double });
    for (const shifted of [x.add(1e4), x.add(1e4).contiguous({ memoryFormat: 'channels_last' })]) {
      assertClose(layer.forward(shifted), layer.forward(x), { atol: 1e-8, rtol: 1e-6 });
    }
  });

  it("has PyTorch's names in its state, and only what it was asked for", () => {
    const names = (options: object) => [...new InstanceNorm1d({ features: 3, ...options }).stateDict().keys()];
    const running = ['running_mean', 'running_var', 'num_batches_tracked'];
    assert.deepEqual(names({}), []);
    assert.deepEqual(names({ affine: true, bias: false }), ['weight']);
    assert.deepEqual(names({ affine: true, trackRunningStats: true }), ['weight', 'bias', ...running]);
  });

  it('refuses shapes that do not fit, one position a channel, and on request what is not finite, before it counts', () => {
    const layer = new InstanceNorm1d({ features: 3, trackRunningStats: true, nonFinite: 'raise', device });
    assert.throws(() => layer.forward(torch.zeros([2, 3], { device })), /InstanceNorm1d: expected \[N, C, L\]/);
    assert.throws(() => layer.forward(torch.zeros([2, 4, 5], { device })), /InstanceNorm1d: expected 3 channels/);
    assert.throws(() => layer.forward(torch.zeros([2, 3, 1], { device })), /has one position a channel/);
    assert.throws(
      () => layer.forward(torch.full([2, 3, 4], NaN, { device })),
      /InstanceNorm1d: the input .* holds NaN/,
    );
    assert.deepEqual(numbers(layer.numBatchesTracked!), [0]);
    assert.deepEqual(layer.eval().forward(torch.zeros([2, 3, 1], { device })).shape, [2, 3, 1]);
    const untracked = new InstanceNorm1d({ features: 3, device }).eval();
    assert.throws(() => untracked.forward(torch.zeros([2, 3, 1], { device })), /has one position a channel/);
    assert.throws(
      () => new InstanceNorm2d({ features: 3 }).forward(torch.zeros([3, 4, 4])),
      /InstanceNorm2d: expected \[N, C, H, W\]/,
    );
    assert.throws(
      () => new InstanceNorm3d({ features: 3 }).forward(torch.zeros([3, 4, 4])),
      /InstanceNorm3d: expected \[N, C, D, H, W\]/,
    );
  });
});
