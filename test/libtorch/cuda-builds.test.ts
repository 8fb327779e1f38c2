import assert from 'node:assert/strict';
import {
  chooseCudaBuild,
  cudaBuildsOf,
  refuseCudaBuild,
  refuseCudaVersion,
  type CudaMachine,
} from '../../src/libtorch/cuda-builds';
import type { CudaDriver } from '../../src/libtorch/cuda-driver';
import { supportedMinors } from '../../src/libtorch/version';

describe('builds with CUDA', () => {
  const linux: CudaMachine = { platform: 'linux', arch: 'x64' };
  const driver = (version: string, cuda: string, ...capabilities: string[]): CudaDriver => ({
    version,
    cuda,
    gpus: capabilities.map((capability) => ({ name: `GPU ${capability}`, capability })),
    source: 'nvidia-smi',
  });
  const choose = (release: string, found: CudaDriver, machine = linux) =>
    chooseCudaBuild(release, { driver: found }, machine).variant;

  it('are the newest that the driver supports', () => {
    assert.equal(choose('2.13.0', driver('580.65.06', '13.0')), 'cu130');
    assert.equal(choose('2.13.0', driver('570.10', '12.8')), 'cu126');
    // An experimental build has to be named.
    assert.equal(choose('2.13.0', driver('610.1', '13.3')), 'cu130');
    assert.equal(choose('2.14.0', driver('610.1', '13.3')), 'cu132');
    assert.equal(choose('2.11.0', driver('570.10', '12.8')), 'cu128');
  });

  it('may be of a newer minor version than the driver only when there is none that it supports in full', () => {
    assert.equal(choose('2.13.0', driver('525.60.13', '12.0')), 'cu126');
    assert.equal(choose('2.14.0', driver('580.65.06', '13.0')), 'cu130');
    assert.equal(choose('2.11.0', driver('560.1', '12.6')), 'cu126');
  });

  it('suit the GPUs', () => {
    assert.equal(choose('2.13.0', driver('580.65.06', '13.0', '6.1')), 'cu126');
    assert.equal(choose('2.13.0', driver('580.65.06', '13.0', '7.5')), 'cu130');
    // No build suits both: one of them is served.
    assert.equal(choose('2.13.0', driver('580.65.06', '13.0', '12.0', '6.1')), 'cu130');
    assert.equal(choose('2.13.0', driver('580.65.06', '13.0', '7.5'), { platform: 'linux', arch: 'x64' }), 'cu130');
    assert.throws(() => choose('2.13.0', driver('580.65.06', '13.0', '7.5'), { platform: 'linux', arch: 'arm64' }), {
      code: 'LIBTORCH_CUDA',
      message: /begins at 8\.0[^]*kontrast setup --cpu$/,
    });
    // What comes later than the build is compiled by the driver, on Linux.
    assert.equal(choose('2.13.0', driver('610.1', '14.0', '13.0')), 'cu130');
    assert.throws(
      () => choose('2.13.0', driver('610.1', '14.0', '13.0'), { platform: 'win32', arch: 'x64' }),
      /ends at 12\.x/,
    );
  });

  it('need a driver that is new enough', () => {
    assert.throws(() => choose('2.13.0', driver('525.50', '11.8')), {
      code: 'LIBTORCH_CUDA',
      message: [
        'No CUDA build of PyTorch 2.13.0 works on this machine: the driver is 525.50 (CUDA 11.8).',
        '  - CUDA 13.0 needs the driver 580 or newer',
        '  - CUDA 12.6 needs the driver 525.60.13 or newer',
        'Update the driver, then run npx kontrast setup --cuda again.',
      ].join('\n'),
    });
    assert.throws(() => choose('2.13.0', driver('528.10', '11.8'), { platform: 'win32', arch: 'x64' }), /528\.33/);
    // With NVIDIA's package for forward compatibility an old driver supports a newer CUDA, and says so.
    assert.equal(choose('2.13.0', driver('535.1', '13.0')), 'cu130');
    assert.equal(refuseCudaVersion('13.0', driver('580.65.06', '13.0'), linux), null);
    assert.match(refuseCudaVersion('15.1', driver('580.65.06', '13.0'), linux)!, /that comes with CUDA 15\.1/);
  });

  it('are refused with every reason', () => {
    const [, , cu126] = cudaBuildsOf('2.13.0');
    assert.deepEqual(refuseCudaBuild(cu126!, driver('580.65.06', '13.0', '12.0'), linux), [
      'GPU 12.0 (compute capability 12.0) is too new for the build with CUDA 12.6, which ends at 9.x',
    ]);
    assert.deepEqual(
      refuseCudaBuild(cu126!, { ...driver('580.65.06', '13.0'), gpus: [{ name: 'x', capability: null }] }, linux),
      [],
    );
  });

  it('need a driver at all, or a name', () => {
    assert.throws(() => chooseCudaBuild('2.13.0', { looked: ['here: nothing', 'there: nothing'] }, linux), {
      code: 'LIBTORCH_CUDA',
      message:
        /^No driver for NVIDIA GPUs was found\. Looked at:\n {2}- here: nothing\n {2}- there: nothing\n.*: npx kontrast setup --cuda --variant cu130$/,
    });
  });

  it('are known of every release that is supported', () => {
    const [first, last] = [supportedMinors.oldest, supportedMinors.newest].map((minor) => Number(minor.split('.')[1]));
    for (let minor = first!; minor <= last!; minor++)
      assert.ok(cudaBuildsOf(`2.${minor}.0`).length >= 3, String(minor));
    assert.deepEqual(cudaBuildsOf('9.9.9'), []);
  });
});
