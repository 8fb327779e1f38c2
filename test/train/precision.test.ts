import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { choosePrecision, processorHasBfloat16 } from '../../src/train';

describe('precision', () => {
  it('takes what was chosen', () => {
    assert.equal(choosePrecision('float32', 'cuda:0'), 'float32');
    assert.equal(choosePrecision('bfloat16', 'cpu'), 'bfloat16');
  });

  it('chooses bfloat16 where it is quick', () => {
    assert.equal(choosePrecision('auto', 'cuda:0'), 'bfloat16');
    assert.equal(choosePrecision('auto', 'cpu'), processorHasBfloat16() ? 'bfloat16' : 'float32');
  });

  it('reads the processor from what Linux says', () => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-precision-')), 'cpuinfo');
    const cases: [string, boolean][] = [
      ['flags\t\t: fpu avx512_bf16 amx_tile', true],
      ['flags\t\t: fpu amx_bf16', true],
      ['flags\t\t: fpu avx2 avx512f', false],
      ['model name\t: amx_bf16', false],
    ];
    for (const [text, expected] of cases) {
      fs.writeFileSync(file, `processor\t: 0\n${text}\n`);
      assert.equal(processorHasBfloat16(file), expected, text);
    }
    fs.rmSync(path.dirname(file), { recursive: true });
    assert.equal(processorHasBfloat16(file), false);
  });
});
