import assert from 'node:assert/strict';
import { runProgramsOf } from '../support/programs';

describe('the page on normalisation', () => {
  it('has programs that print what it says', () => {
    const printed = runProgramsOf('docs/normalisation.md').map((text) => text.trim());
    const messages = printed.pop()!;
    assert.deepEqual(printed, [
      'GroupNorm [ 8, 128 ]\nGhostBatchNorm2d [ 8, 128 ]\nBatchNorm2d [ 8, 128 ]\nWeightStandardizedConv2d [ 1, 128 ]\ntrue',
      'input stages.0.0 stages.0.1 stages.1.0 stages.1.1\ntrue',
      'SplitBatchNorm2d\nBatchNorm2d\n6\n6 true\ntrue\n6 true',
      'none leaks true\nsplit leaks true\nshuffle-split shielded true\neman independent false',
      '12 conv1 8 × 8 × 12 × 12 true\n101 true 0',
      '[ [ 4, 0.0001 ], [ 7, 0 ] ]\n8 6 false',
      '3 19 true',
      'diverges\n3 true\nbounded',
      '[ 1, 1 ]\nUnMixTns [ 1, 8 ]',
      '[ 32, 1 ] false\n[ 32, 6 ]\n[ 8, 3, 16, 16 ]\n2 [ 64, 8 ]',
      'true\n3 true 6',
      'true true\ntrue',
      'true true',
      '[ 2, 5, 8 ] true',
    ]);
    assert.match(
      messages,
      /more than one value a channel[^]*holds NaN[^]*have seen no batch[^]*missing: running_var\n0$/,
    );
  }).timeout(120_000);
});
