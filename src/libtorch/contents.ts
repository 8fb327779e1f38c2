/** What of a wheel LibTorch needs. */

/** Of PyTorch's wheel: libraries, headers, CMake files, version and licences; not Python's side of it, and no test programs. */
export function isNeeded(path: string): boolean {
  if (/^[^/]+\.dist-info\//.test(path)) return true;
  if (path === 'torch/version.py') return true;
  if (path.startsWith('torch/include/') || path.startsWith('torch/share/')) return true;
  if (!path.startsWith('torch/lib/')) return false;
  return !/\/(lib)?(torch_python|shm|torchbind_test|jitbackend_test|backend_with_compiler|aoti_custom_ops)\b/.test(
    path,
  );
}

/** Of NVIDIA's wheels: the shared libraries, where PyTorch's look for them, and the licences. */
export function isNvidiaLibrary(path: string): boolean {
  if (/^[^/]+\.dist-info\//.test(path)) return true;
  return /^(nvidia|cusparselt)\/(.+\/)?lib\/[^/]+\.so[.\d]*$/.test(path);
}
