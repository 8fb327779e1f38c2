import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { BatchNorm1d } from '../../src/norm';
import { ProjectionHead } from '../../src/models';
import { device } from '../support/device';

describe('ProjectionHead', () => {
  it('is linear layers with ReLU in between', () => {
    const head = new ProjectionHead({ inputSize: 6, hiddenSize: 5, outputSize: 4, layers: 3 }).to({ device });
    assert.deepEqual(
      [...head].map((part) => part.constructor.name),
      ['Linear', 'ReLU', 'Linear', 'ReLU', 'Linear'],
    );
    assert.deepEqual(head.forward(torch.zeros([2, 6], { device })).shape, [2, 4]);
    assert.equal(head.outputSize, 4);
  });

  it('normalises where asked to, without a bias before it', () => {
    const norm = (features: number) => new BatchNorm1d({ features });
    const head = new ProjectionHead({ inputSize: 6, outputSize: 4, norm, outputNorm: norm });
    assert.deepEqual(
      [...head].map((part) => part.constructor.name),
      ['Linear', 'BatchNorm1d', 'ReLU', 'Linear', 'BatchNorm1d'],
    );
    assert.ok(!head.stateDict().has('0.bias') && !head.stateDict().has('3.bias'));
    const plain = new ProjectionHead({ inputSize: 6, outputSize: 4, layers: 1 });
    assert.deepEqual([...plain.stateDict().keys()], ['0.weight', '0.bias']);
  });

  it('refuses no layers', () => {
    assert.throws(() => new ProjectionHead({ inputSize: 6, layers: 0 }), /layers must be an integer of at least 1/);
  });
});
