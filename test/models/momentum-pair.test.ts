import assert from 'node:assert/strict';
import { Generator, torch } from '../../src/torch';
import { Linear, Sequential } from '../../src/nn';
import { BatchNorm1d } from '../../src/norm';
import { MomentumPair } from '../../src/models';
import { numbers } from '../support/close';
import { device } from '../support/device';

const build = () =>
  new Sequential(new Linear({ inFeatures: 2, outFeatures: 2, device }), new BatchNorm1d({ features: 2, device }));

describe('MomentumPair', () => {
  it('starts with an equal copy that needs no gradients, also when building is random', () => {
    const { query, key } = new MomentumPair({ build });
    for (const [name, tensor] of key.stateDict())
      assert.deepEqual(numbers(tensor), numbers(query.stateDict().get(name)!));
    assert.ok(query.parameters().every((parameter) => parameter.requiresGrad));
    assert.ok(key.parameters().every((parameter) => !parameter.requiresGrad));
    query.parameters()[0]!.detach().add_(1);
    assert.notDeepEqual(numbers(key.parameters()[0]!), numbers(query.parameters()[0]!));
  });

  it('follows, and leaves the buffers to the copy unless told otherwise', () => {
    for (const [buffers, expected] of [
      [undefined, 0],
      ['copy', 8],
      ['average', 4],
    ] as const) {
      // prettier-ignore
      const pair = new MomentumPair({ build, momentum: 0.5, buffers });
      pair.key.parameters()[1]!.fill_(0);
      pair.query.parameters()[1]!.detach().fill_(2);
      pair.query.namedBuffers().get('1.running_mean')!.fill_(8);
      pair.update();
      assert.deepEqual(numbers(pair.key.parameters()[1]!), [1, 1]);
      assert.deepEqual(numbers(pair.key.namedBuffers().get('1.running_mean')!), [expected, expected]);
      assert.equal(pair.steps, 1);
    }
  });

  it('goes on exactly from its state', () => {
    const momentum = (step: number) => step / 10;
    const [first, second] = [new MomentumPair({ build, momentum }), new MomentumPair({ build, momentum })];
    const generator = new Generator({ seed: 1 });
    const disturb = (pair: MomentumPair<Sequential>) => {
      pair.query
        .parameters()[0]!
        .detach()
        .copy_(torch.randn([2, 2], { generator }));
      pair.update();
    };
    disturb(first);
    disturb(first);
    second.loadStateDict(first.stateDict());
    assert.equal(second.momentum, 0.2);
    const state = generator.getState();
    disturb(first);
    generator.setState(state);
    disturb(second);
    assert.deepEqual(numbers(second.key.parameters()[0]!), numbers(first.key.parameters()[0]!));
  });

  it('refuses a state that does not fit, before anything changes', () => {
    const pair = new MomentumPair({ build });
    const { tensors, values } = pair.stateDict();
    const changed = new Map(tensors).set('query.0.bias', torch.zeros([2], { device }));
    changed.delete('key.0.weight');
    const before = numbers(pair.query.parameters()[1]!);
    assert.throws(() => pair.loadStateDict({ tensors: changed, values }), /missing: 0.weight/);
    assert.deepEqual(numbers(pair.query.parameters()[1]!), before);
  });
});
