import assert from 'node:assert/strict';
import {
  markerEnvironment,
  markerHolds,
  normalName,
  parseRequirement,
  requiresDist,
} from '../../src/libtorch/requirements';

describe('requirements', () => {
  it('are split into name, extras, conditions and marker', () => {
    assert.deepEqual(
      parseRequirement(
        'cuda_toolkit[cublas, Cuda_Nvrtc]==13.0.3; platform_system == "Linux" and python_version < "3.15"',
      ),
      {
        name: 'cuda-toolkit',
        extras: ['cublas', 'cuda-nvrtc'],
        specifiers: [{ operator: '==', version: '13.0.3' }],
        marker: 'platform_system == "Linux" and python_version < "3.15"',
      },
    );
    assert.deepEqual(parseRequirement('nvidia.nvjitlink (<14,>=13.0.88)'), {
      name: 'nvidia-nvjitlink',
      extras: [],
      specifiers: [
        { operator: '<', version: '14' },
        { operator: '>=', version: '13.0.88' },
      ],
      marker: '',
    });
    assert.deepEqual(parseRequirement('jinja2').specifiers, []);
    for (const text of ['nvidia-nccl =2.0', 'nvidia-nccl @ https://example.invalid/a.whl', '']) {
      assert.throws(() => parseRequirement(text), { code: 'LIBTORCH_DOWNLOAD' }, text);
    }
    assert.equal(normalName('NVIDIA__NCCL.-cu13'), 'nvidia-nccl-cu13');
  });

  it('are read from the head of METADATA alone', () => {
    const text = 'Name: a\r\nRequires-Dist: one>=1\r\nrequires-dist: two\r\n\r\nRequires-Dist: in the description\r\n';
    assert.deepEqual(requiresDist(text), ['one>=1', 'two']);
  });
});

describe('markers', () => {
  const linux = markerEnvironment('linux', 'x64', '3.11');
  const holds = (marker: string, extras: string[] = [], environment = linux) =>
    markerHolds(marker, environment, extras);

  it('see the machine', () => {
    assert.ok(holds('platform_system == "Linux" and platform_machine == "x86_64"'));
    assert.ok(!holds('platform_system == "Linux"', [], markerEnvironment('win32', 'x64', '3.11')));
    assert.ok(holds("platform_machine == 'aarch64'", [], markerEnvironment('linux', 'arm64', '3.11')));
    assert.ok(holds("platform_machine == 'AMD64' and os_name == 'nt'", [], markerEnvironment('win32', 'x64', '3.11')));
    assert.ok(
      holds(
        "platform_machine == 'arm64' and sys_platform == 'darwin'",
        [],
        markerEnvironment('darwin', 'arm64', '3.11'),
      ),
    );
    assert.ok(holds(''));
  });

  it('compare versions as versions and other texts as texts', () => {
    assert.ok(holds('python_version < "3.15"'));
    assert.ok(holds('python_version >= "3.9"'));
    assert.ok(!holds('python_version > "3.11"'));
    assert.ok(holds('python_version ~= "3.10"'));
    assert.ok(holds('python_version == "3.*"'));
    assert.ok(holds('"3.9" <= python_version'));
    assert.ok(holds('sys_platform != "win32"'));
    assert.ok(holds('sys_platform in "linux darwin"'));
    assert.ok(holds('sys_platform not in "win32 darwin"'));
    assert.ok(!holds('sys_platform < "linux"') && holds('sys_platform <= "linux"') && holds('sys_platform >= "linux"'));
  });

  it('bind `and` closer than `or`, and brackets closest', () => {
    assert.ok(holds('os_name == "posix" or os_name == "nt" and os_name == "x"'));
    assert.ok(!holds('(os_name == "posix" or os_name == "nt") and os_name == "x"'));
    assert.ok(holds('(os_name == "nt" and os_name == "x" or os_name == "posix")'));
  });

  it('hold for an extra only when it was asked for', () => {
    const marker =
      "(sys_platform == 'linux' and platform_machine == 'aarch64' or sys_platform == 'linux' and platform_machine == 'x86_64') and extra == 'cublas'";
    assert.ok(holds(marker, ['cublas']));
    assert.ok(holds(marker, ['all', 'cublas']));
    assert.ok(!holds(marker, ['all']));
    assert.ok(!holds(marker));
    assert.ok(holds("extra != 'cublas'"));
    assert.ok(holds('extra == "Opt_Einsum"', ['opt-einsum']));
  });

  it('that can not be read are errors', () => {
    for (const marker of [
      'os == "x"',
      '(os_name == "posix"',
      'os_name ? "x"',
      'os_name == "posix" os_name',
      'os_name <> "x"',
      '"open',
    ]) {
      assert.throws(() => holds(marker), { code: 'LIBTORCH_DOWNLOAD' }, marker);
    }
  });
});
