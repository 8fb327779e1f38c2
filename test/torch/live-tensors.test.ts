import assert from 'node:assert/strict';
import { debugLiveTensors, dispose, torch, traceTensors, type Tensor } from '../../src/torch';

describe('debugLiveTensors', () => {
  function leak(): Tensor {
    return torch.zeros([123, 457]);
  }

  it('lists what is alive, with where it was made while tracing is on', () => {
    const before = torch.ones([123, 459]);
    traceTensors(true);
    traceTensors(true);
    let leaked: Tensor;
    try {
      leaked = leak();
    } finally {
      traceTensors(false);
    }
    const view = leaked.t();
    const live = debugLiveTensors();
    const named = (shape: string): (typeof live)[number] => live.find((tensor) => tensor.shape.join() === shape)!;
    assert.match(named('123,457').madeAt![0]!, /^leak \(.*live-tensors\.test\.ts:\d+:\d+\)$/);
    assert.equal(named('123,457').bytes, 123 * 457 * 4);
    assert.equal(named('123,457').dtype, 'float32');
    assert.equal(named('457,123').bytes, 123 * 457 * 4);
    assert.equal(named('457,123').madeAt, null);
    assert.equal(named('123,459').madeAt, null);
    dispose(before, leaked, view);
    const after = debugLiveTensors();
    assert.ok(!after.some((tensor) => tensor.shape.includes(457)));
    assert.equal(after.length, live.length - 3);
  });
});
