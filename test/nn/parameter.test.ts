import assert from 'node:assert/strict';
import { scope, torch } from '../../src/torch';
import { Parameter } from '../../src/nn';
import { numbers } from '../support/close';
import { device } from '../support/device';

describe('Parameter', () => {
  it('shares the storage of its tensor and is a leaf', () => {
    const tensor = torch.ones([2], { device });
    const parameter = scope(() => new Parameter(tensor));
    tensor.fill_(3);
    assert.deepEqual(numbers(parameter), [3, 3]);
    assert.ok(parameter.isLeaf && parameter.requiresGrad);
    assert.ok(!new Parameter(tensor, { requiresGrad: false }).requiresGrad);
  });

  it('refuses integers', () => {
    assert.throws(
      () => new Parameter(torch.zeros([1], { dtype: 'int64' })),
      /floating-point or complex dtype, found int64/,
    );
  });
});
