import assert from 'node:assert/strict';
import {
  CudaGraph,
  cuda,
  InvalidArgumentError,
  manualSeed,
  scope,
  synchronize,
  torch,
  TorchError,
} from '../../src/torch';
import { Linear } from '../../src/nn';
import { device, onCuda } from '../support/device';

describe('CudaGraph', () => {
  it('refuses the CPU, and arguments that mean nothing, before the step runs', () => {
    const step = (): never => assert.fail('the step must not run');
    assert.throws(() => CudaGraph.capture(step, { device: 'cpu' }), /only CUDA devices have graphs, and 'cpu' is none/);
    assert.throws(() => CudaGraph.capture(step, { warmup: -1 }), /warmup is a whole number from 0 on, not -1/);
    assert.throws(() => CudaGraph.capture(step, { warmup: 0.5 }), InvalidArgumentError);
    assert.throws(() => CudaGraph.capture(1 as never), /takes a callback/);
    if (!cuda.isAvailable()) {
      assert.throws(() => CudaGraph.capture(step), InvalidArgumentError);
      assert.throws(() => CudaGraph.capture(step, { device: 'cuda:1' }), /'cuda:1' does not exist/);
    }
  });

  describe('with a device', () => {
    before(function () {
      if (!onCuda) this.skip();
    });

    it('replays what the step computed, from new data', () => {
      const input = torch.ones([4], { device });
      const graph = CudaGraph.capture(() => scope(() => input.mul(2).add(1)), { device });
      assert.deepEqual(graph.replay().toArraySync(), [3, 3, 3, 3]);
      input.copy_(torch.tensor([1, 2, 3, 4]));
      assert.equal(graph.replay(), graph.output);
      assert.deepEqual(graph.output.toArraySync(), [3, 5, 7, 9]);
      assert.match(graph.device, /^cuda:\d+$/);
      graph.dispose();
      graph.dispose();
      assert.equal(graph.isDisposed, true);
      assert.throws(() => graph.replay(), /disposed/);
      assert.deepEqual(graph.output.toArraySync(), [3, 5, 7, 9]);
    });

    it('runs the step for warming up, once more to record it, and not to replay it', () => {
      const counter = torch.zeros([1], { device });
      let calls = 0;
      const graph = CudaGraph.capture(
        () => {
          calls++;
          counter.add_(1);
        },
        { device, warmup: 2 },
      );
      assert.equal(calls, 3);
      assert.equal(counter.itemSync(), 2);
      for (let i = 0; i < 5; i++) graph.replay();
      assert.equal(counter.itemSync(), 7);
      assert.equal(calls, 3);
    });

    it('replays a step of training as if it ran', () => {
      const build = (): { step: () => void; weights: () => number[] } => {
        manualSeed(3);
        const layer = new Linear({ inFeatures: 8, outFeatures: 4 }).to(device);
        const x = torch.randn([16, 8], { device });
        const step = (): void => {
          for (const parameter of layer.parameters()) parameter.grad = null;
          layer.forward(x).square().mean().backward();
          for (const parameter of layer.parameters()) {
            const { grad } = parameter;
            parameter.detach().sub_(grad!.mul(0.1));
          }
        };
        return { step, weights: () => Array.from(layer.parameters()[0]!.dataSync() as Float32Array) };
      };
      const plain = build();
      for (let i = 0; i < 6; i++) scope(plain.step);
      const graphed = build();
      const graph = CudaGraph.capture(graphed.step, { device, warmup: 2 });
      for (let i = 0; i < 4; i++) graph.replay();
      const [expected, actual] = [plain.weights(), graphed.weights()];
      for (const [i, weight] of actual.entries()) assert.ok(Math.abs(weight - expected[i]!) < 1e-5, `${String(i)}`);
    });

    it('draws new random numbers at each replay', () => {
      const graph = CudaGraph.capture(() => torch.randn([64], { device }), { device });
      const first = graph.replay().dataSync();
      assert.notDeepEqual(graph.replay().dataSync(), first);
    });

    it('keeps memory of its own, or shares that of another graph', () => {
      const input = torch.ones([1 << 20], { device });
      const first = CudaGraph.capture(() => input.mul(2), { device });
      const noise = torch.zeros([1 << 20], { device });
      assert.equal(first.replay().at(0).itemSync(), 2);
      const second = CudaGraph.capture(() => input.mul(3), { device, shareMemory: first });
      assert.equal(second.replay().at(0).itemSync(), 3);
      assert.equal(noise.sum().itemSync(), 0);
      first.dispose();
      assert.throws(() => CudaGraph.capture(() => input.mul(2), { device, shareMemory: first }), /was disposed/);
      assert.equal(second.replay().at(5).itemSync(), 3);
    });

    it('says what a step may not do, and leaves the device usable', () => {
      const input = torch.ones([4], { device });
      assert.throws(
        () => CudaGraph.capture(() => input.sum().itemSync(), { device }),
        (error: unknown) => {
          assert.ok(error instanceof TorchError);
          assert.equal(error.code, 'GRAPH_CAPTURE');
          assert.match(error.message, /no item\(\)/);
          assert.ok(error.cause instanceof TorchError);
          return true;
        },
      );
      synchronize(device);
      assert.equal(torch.randn([8], { device }).isfinite().all().itemSync(), 1);
      const graph = CudaGraph.capture(() => input.add(torch.rand([4], { device })), { device });
      assert.ok(graph.replay().sum().itemSync() > 4);
    });

    it("passes on the step's own error, and refuses async steps and graphs within graphs", () => {
      let calls = 0;
      const failing = (): void => {
        calls++;
        if (calls === 4) throw new RangeError('its own');
      };
      assert.throws(() => CudaGraph.capture(failing, { device }), RangeError);
      assert.throws(() => CudaGraph.capture(async () => Promise.resolve(), { device }), /synchronous/);
      assert.throws(() => CudaGraph.capture(async () => Promise.resolve(), { device, warmup: 0 }), /synchronous/);
      const nested = (): unknown => CudaGraph.capture(() => undefined, { device });
      assert.throws(() => CudaGraph.capture(nested, { device }), /cannot capture another/);
      const input = torch.ones([2], { device });
      assert.equal(
        CudaGraph.capture(() => input.sum(), { device })
          .replay()
          .itemSync(),
        2,
      );
    });
  });
});
