import assert from 'node:assert/strict';
import { isNeeded, isNvidiaLibrary } from '../../src/libtorch/contents';

describe('what of a wheel is needed', () => {
  it("is, of PyTorch's, libraries, headers and licences", () => {
    const needed = [
      'lib/libtorch.so',
      'lib/libgomp.so.1',
      'lib/c10.lib',
      'lib/libtorch_global_deps.so',
      'include/ATen/ATen.h',
    ];
    const rest = [
      'lib/libtorch_python.so',
      'lib/libshm.so',
      'lib/libshm/err.h',
      'lib/libjitbackend_test.so',
      'bin/protoc',
      'nn/init.py',
    ];
    for (const path of needed) assert.ok(isNeeded(`torch/${path}`), path);
    for (const path of rest) assert.ok(!isNeeded(`torch/${path}`), path);
    assert.ok(isNeeded('torch-2.13.0.dist-info/licenses/LICENSE'));
    assert.ok(!isNeeded('functorch/__init__.py'));
  });

  it("is, of NVIDIA's, shared libraries and licences", () => {
    for (const path of [
      'nvidia/cu13/lib/libcublas.so.13',
      'nvidia/cusparselt/lib/libcusparseLt.so.0',
      'cusparselt/lib/libcusparseLt.so.0',
      'nvidia/nvshmem/lib/libnvshmem_host.so.3',
      'nvidia_cublas-13.1.dist-info/licenses/License.txt',
    ]) {
      assert.ok(isNvidiaLibrary(path), path);
    }
    for (const path of [
      'nvidia/cu13/include/cublas.h',
      'nvidia/nvshmem/lib/libnvshmem_device.a',
      'nvidia/nvshmem/lib/libnvshmem_device.bc',
      'nvidia/cu13/lib/stubs/libcuda.so',
      'sympy/lib/x.so',
    ]) {
      assert.ok(!isNvidiaLibrary(path), path);
    }
  });
});
