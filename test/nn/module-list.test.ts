import assert from 'node:assert/strict';
import { Linear, ModuleList, ReLU } from '../../src/nn';

describe('ModuleList', () => {
  it('holds modules for its owner', () => {
    const list = new ModuleList([new ReLU(), new Linear({ inFeatures: 1, outFeatures: 1 })]);
    list.push(new ReLU());
    assert.equal(list.length, 3);
    assert.deepEqual([...list.stateDict().keys()], ['1.weight', '1.bias']);
    assert.equal([...list].length, 3);
    const other = new ReLU();
    list.replaceChild('1', other);
    assert.equal(list.at(1), other);
    assert.throws(() => list.replaceChild('3', other), /no child '3'/);
    assert.throws(() => list.forward(), /computes nothing itself/);
  });
});
