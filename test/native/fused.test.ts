/** The fused CUDA kernels without a GPU: their text runs on the CPU, thread by thread, and is compiled where there is an NVRTC. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { locateLibTorch } from '../../src/libtorch';
import { scratch } from '../support/scratch';

const root = resolve(__dirname, '..', '..');
const native = join(root, 'native', 'contrast');
const compiler = process.env['CXX'] ?? 'c++';

describe('the fused kernels', function () {
  this.timeout(1_200_000);
  const path = scratch();

  /** Runs a program; gives its output, and fails with it. */
  function run(program: string, parameters: readonly string[]): string {
    const { status, stdout, stderr, error } = spawnSync(program, parameters, { encoding: 'utf8' });
    assert.equal(status, 0, `${program} ${parameters.join(' ')}\n${String(error ?? '')}${stdout}${stderr}`);
    return stdout;
  }

  it('give what LibTorch’s operators give, forwards and backwards, and compile for devices old and new', function () {
    // The fibers that stand for a device's threads are Linux's.
    if (process.platform !== 'linux' || spawnSync(compiler, ['--version']).status !== 0) this.skip();
    let libtorch: ReturnType<typeof locateLibTorch>;
    try {
      libtorch = locateLibTorch({ needsHeaders: true });
    } catch {
      this.skip();
    }
    run(process.execPath, [join(native, 'embed.mjs'), path('kernels_text.h')]);
    const program = path('fused');
    const sources = ['fused.cc', 'blocks.cc', 'compiler.cc'].map((name) => join(native, name));
    run(compiler, [
      ...['-std=c++20', '-O1', '-o', program, '-I', native, '-I', path('')],
      ...['-isystem', libtorch.include, '-isystem', join(libtorch.include, 'torch', 'csrc', 'api', 'include')],
      ...[join(__dirname, 'fused.cc'), ...sources],
      ...[`-L${libtorch.lib}`, `-Wl,-rpath,${libtorch.lib}`, '-ltorch_cpu', '-lc10', '-ldl'],
    ]);
    assert.match(run(program, [__dirname, native, path(''), compiler]), /^[1-9]\d* passed, 0 failed$/m);

    // NVRTC comes with LibTorch's CUDA build; elsewhere there may be none.
    for (const capability of ['80', '90', '999']) {
      const { status, stdout } = spawnSync(program, ['--compile', capability], { encoding: 'utf8' });
      if (/there is no NVRTC/.test(stdout)) return;
      assert.equal(status, 0, stdout);
      assert.match(stdout, capability === '999' ? /^(PTX, \d+ bytes\n){3}$/ : /^(machine code, \d+ bytes\n){3}$/);
    }
  });
});
