import assert from 'node:assert/strict';
import { manualSeed, torch } from '../../src/torch';
import { Dropout } from '../../src/nn';
import { numbers } from '../support/close';
import { device } from '../support/device';

describe('Dropout', () => {
  it('drops about p of the elements in training and scales the others', () => {
    manualSeed(1);
    const values = numbers(new Dropout({ p: 0.2 }).forward(torch.ones([10000], { device })));
    const dropped = values.filter((value) => value === 0).length;
    assert.ok(dropped > 1800 && dropped < 2200, `${dropped} of 10000 dropped`);
    assert.ok(values.every((value) => value === 0 || Math.abs(value - 1.25) < 1e-6));
  });

  it('is reproducible by seed', () => {
    const draw = () => {
      manualSeed(4);
      return numbers(new Dropout().forward(torch.ones([64], { device })));
    };
    assert.deepEqual(draw(), draw());
  });

  it('does nothing in evaluation', () => {
    const x = torch.randn([8], { device });
    assert.deepEqual(numbers(new Dropout({ p: 0.9 }).eval().forward(x)), numbers(x));
  });

  it('refuses what is no probability', () => {
    assert.throws(() => new Dropout({ p: 1.5 }), /Dropout: p must be a number from 0 to 1, found 1.5/);
  });
});
