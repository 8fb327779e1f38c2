import assert from 'node:assert/strict';
import { ownTarget, parseWheelName, pythonOf, runsOn, type WheelTarget } from '../../src/libtorch/wheel-name';

describe('names of wheels', () => {
  it('tell package, version and platforms', () => {
    assert.deepEqual(parseWheelName('nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl'), {
      name: 'nvidia-cufft',
      version: '12.0.0.61',
      pythons: ['py3'],
      platforms: ['manylinux2014_x86_64', 'manylinux_2_17_x86_64'],
    });
    assert.equal(parseWheelName('a-1.0-2-cp311-cp311-win_amd64.whl')?.version, '1.0');
    for (const name of ['a-1.0.tar.gz', 'a-1.0.whl', 'a-1-2-3-4-5-6.whl'])
      assert.equal(parseWheelName(name), null, name);
  });

  it('tell the Python that markers see', () => {
    assert.equal(pythonOf(parseWheelName('torch-2.13.0-cp314-cp314t-win_amd64.whl')!), '3.14');
    assert.equal(pythonOf(parseWheelName('a-1.0-py2.py3-none-any.whl')!), '3.12');
  });

  const linux: WheelTarget = { platform: 'linux', arch: 'x64', glibc: '2.28' };
  const fits = (tag: string, target: WheelTarget) => runsOn(parseWheelName(`a-1-cp311-cp311-${tag}.whl`)!, target);

  it('tell what they run on', () => {
    for (const [tag, target] of [
      ['any', linux],
      ['manylinux_2_28_x86_64', linux],
      ['manylinux2014_x86_64', linux],
      ['manylinux_2_35_x86_64.manylinux1_x86_64', linux],
      ['linux_x86_64', linux],
      ['manylinux_2_27_aarch64', { ...linux, arch: 'arm64' }],
      ['win_amd64', { platform: 'win32', arch: 'x64', glibc: null }],
      ['macosx_14_0_arm64', { platform: 'darwin', arch: 'arm64', glibc: null }],
    ] as [string, WheelTarget][]) {
      assert.ok(fits(tag, target), tag);
    }
    for (const [tag, target] of [
      ['manylinux_2_34_x86_64', linux],
      ['manylinux_2_28_aarch64', linux],
      ['musllinux_1_2_x86_64', linux],
      ['manylinux_2_28_x86_64', { ...linux, glibc: null }],
      ['manylinux_2_28_x86_64', { ...linux, glibc: '2.9' }],
      ['win_amd64', linux],
      ['win_arm64', { platform: 'win32', arch: 'x64', glibc: null }],
      ['macosx_14_0_x86_64', { platform: 'darwin', arch: 'arm64', glibc: null }],
      ['linux_x86_64', { platform: 'freebsd', arch: 'x64', glibc: null }],
    ] as [string, WheelTarget][]) {
      assert.ok(!fits(tag, target), tag);
    }
  });

  it('are judged for this machine', () => {
    const { platform, arch, glibc } = ownTarget();
    assert.deepEqual([platform, arch], [process.platform, process.arch]);
    if (platform === 'linux') assert.match(glibc ?? '2.0', /^\d+\.\d+/);
  });
});
