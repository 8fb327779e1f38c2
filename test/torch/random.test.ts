import assert from 'node:assert/strict';
import { defaultGenerator, Generator, InvalidArgumentError, manualSeed, torch, TorchError } from '../../src/torch';

describe('random', () => {
  const draw = (generator?: Generator): number[] => Array.from(torch.randn([5], { generator }).dataSync(), Number);

  it('repeats from a seed', () => {
    manualSeed(7);
    const first = draw();
    manualSeed(7);
    assert.deepEqual(draw(), first);
    manualSeed(8n);
    assert.notDeepEqual(draw(), first);
  });

  it('has generators with states of their own', () => {
    const [a, b] = [new Generator({ seed: 3 }), new Generator({ seed: 3 })];
    manualSeed(1);
    const sequence = draw(a);
    manualSeed(2);
    assert.deepEqual(draw(b), sequence);
    assert.equal(a.initialSeed, 3n);
    assert.notDeepEqual(draw(a), sequence);
    assert.deepEqual(draw(a.manualSeed(3)), sequence);
  });

  it('goes on exactly from a saved state', () => {
    const generator = new Generator({ seed: 5 });
    draw(generator);
    const state = generator.getState();
    assert.equal(state.dtype, 'uint8');
    const expected = [draw(generator), draw(generator)];
    const other = new Generator();
    other.setState(state);
    assert.deepEqual([draw(other), draw(other)], expected);
    const saved = defaultGenerator().getState();
    const next = draw();
    defaultGenerator().setState(saved);
    assert.deepEqual(draw(), next);
  });

  it('draws what PyTorch draws from the same seed', () => {
    // torch.manual_seed(0); torch.rand(3) in Python
    const expected = [0.4962565899, 0.7682217956, 0.0884774327];
    const drawn = torch.rand([3], { generator: new Generator({ seed: 0 }) }).dataSync();
    expected.forEach((value, i) => {
      assert.ok(Math.abs(Number(drawn[i]) - value) < 1e-6);
    });
  });

  it('refuses bad seeds and states', () => {
    assert.throws(() => new Generator({ seed: 1.5 }), /a seed is a whole number, not 1.5/);
    assert.throws(() => {
      new Generator().setState(torch.zeros([3], { dtype: 'uint8' }));
    }, TorchError);
  });

  it('refuses seeds that are no whole numbers', () => {
    assert.throws(() => new Generator({ seed: '7' as unknown as number }), /a seed is a whole number, not '7'/);
    assert.throws(() => {
      manualSeed(1.5);
    }, InvalidArgumentError);
  });
});
