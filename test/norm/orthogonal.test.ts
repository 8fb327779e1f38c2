import assert from 'node:assert/strict';
import { Generator, torch } from '../../src/torch';
import { orthogonal_ } from '../../src/norm/orthogonal';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

describe('orthogonal_', () => {
  it('makes rows or columns orthonormal, times the gain', () => {
    const wide = orthogonal_(torch.empty([3, 2, 4], { dtype, device }), { gain: 2 }).view([3, 8]);
    assertClose(wide.matmul(wide.t()), torch.eye(3, { dtype }).mul(4), { atol: 1e-12 });
    const tall = orthogonal_(torch.empty([7, 3], { dtype, device }));
    assertClose(tall.t().matmul(tall), torch.eye(3, { dtype }), { atol: 1e-12 });
  });

  it('favours no sign: a decomposition alone would fix that of the diagonal', () => {
    const generator = new Generator({ seed: 2, device });
    const first = Array.from(
      { length: 40 },
      () => numbers(orthogonal_(torch.empty([2, 2], { device }), { generator }))[0]!,
    );
    const positive = first.filter((value) => value > 0).length;
    assert.ok(positive > 8 && positive < 32, String(positive));
  });

  it('refuses vectors', () => {
    assert.throws(() => orthogonal_(torch.empty([3])), /at least two dimensions, found shape \[3\]/);
  });
});
