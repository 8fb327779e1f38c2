import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Identity } from '../../src/nn';

describe('Identity', () => {
  it('gives back its input', () => {
    const x = torch.ones([2]);
    assert.equal(new Identity().forward(x), x);
  });
});
