import assert from 'node:assert/strict';
import { memory, scope, torch } from '../../src/torch';
import { Linear, ReLU, Sequential } from '../../src/nn';
import { numbers } from '../support/close';
import { device } from '../support/device';

describe('Sequential', () => {
  it('runs its modules in order, by position or by name', () => {
    const double = new Linear({ inFeatures: 1, outFeatures: 1, device });
    double.loadStateDict({ weight: torch.tensor([[-2]]), bias: torch.tensor([0]) });
    const plain = new Sequential(double, new ReLU());
    assert.deepEqual(numbers(plain.forward(torch.tensor([[1], [-1]], { device }))), [0, 2]);
    const named = new Sequential({ double, activation: new ReLU() });
    assert.deepEqual([...named.stateDict().keys()], ['double.weight', 'double.bias']);
    assert.equal(named.length, 2);
    assert.equal(named.at(-1).constructor, ReLU);
    assert.deepEqual([...plain], [double, plain.at(1)]);
  });

  it('lets a child be replaced', () => {
    const list = new Sequential({ first: new ReLU(), second: new ReLU() });
    const linear = new Linear({ inFeatures: 1, outFeatures: 1, device });
    list.replaceChild('first', linear);
    assert.deepEqual([...list.namedChildren().keys()], ['first', 'second']);
    assert.equal(list.at(0), linear);
    assert.throws(() => list.replaceChild('third', linear), /no child 'third' .* its children: first, second/);
  });

  it('keeps nothing of what passes between its modules', () => {
    const part = () => new Linear({ inFeatures: 2, outFeatures: 2, device });
    const modules = new Sequential(part(), new ReLU(), part());
    scope(() => {
      const x = torch.ones([1, 2], { device });
      const before = memory().liveTensors;
      modules.forward(x);
      assert.equal(memory().liveTensors, before + 1);
    });
  });

  it('refuses names that would not survive a state dict, and positions that do not exist', () => {
    assert.throws(() => new Sequential({ 'a.b': new ReLU() }), /must not be empty or hold a dot, found 'a\.b'/);
    assert.throws(() => new Sequential(new ReLU()).at(1), /no module at position 1: there are 1/);
  });
});
