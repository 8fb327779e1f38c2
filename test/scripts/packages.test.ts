import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { platforms } from '../../src/libtorch/platforms';

const root = resolve(__dirname, '..', '..');
const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest & Record<string, unknown>;

interface Manifest {
  name: string;
  version: string;
  os: string[];
  cpu: string[];
  libc?: string[];
  scripts?: object;
  license: string;
  preferUnplugged: boolean;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  devDependencies?: object;
  exports: Record<string, unknown>;
  kontrast?: { libtorch: string; glibc?: string; cpu?: string[] };
}

/** Evaluates an expression with what the scripts export, in a process of its own: they are ES modules. */
function evaluate<T>(file: string, expression: string): T {
  const program = `import * as made from './scripts/packages/${file}.mjs'; import { readFileSync } from 'node:fs';
    const own = JSON.parse(readFileSync('package.json', 'utf8')); console.log(JSON.stringify(${expression}));`;
  const options = { cwd: root, encoding: 'utf8' } as const;
  return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', program], options)) as T;
}

describe('the npm packages', () => {
  it('are one of kontrast, without what builds it, and with the addons of all platforms as what it may do without', () => {
    const manifest = evaluate<Manifest>('manifests', 'made.kontrastManifest(own)');
    assert.deepEqual(
      Object.keys(manifest.optionalDependencies!).sort(),
      platforms.map(({ id }) => `@kontrast/${id}`).sort(),
    );
    assert.deepEqual(new Set(Object.values(manifest.optionalDependencies!)), new Set([own.version]));
    assert.deepEqual(manifest.exports, own.exports);
    assert.deepEqual(manifest.dependencies, own.dependencies);
    for (const field of ['scripts', 'devDependencies', 'gypfile', 'files']) assert.ok(!(field in manifest), field);
  });

  it('are two a platform: the addon, and LibTorch, for it alone and of one version', () => {
    const made = evaluate<[string, Manifest, Manifest][]>(
      'manifests',
      `made.platforms.map((p) => [p.id, made.addonManifest(own, p, { libtorch: '2.13.0', glibc: '2.28' }), made.libtorchManifest(own, p, '2.13.0')])`,
    );
    assert.deepEqual(made.map(([id]) => id), ['linux-x64', 'linux-arm64', 'darwin-arm64', 'win32-x64']); // prettier-ignore
    for (const [id, addon, libtorch] of made) {
      const [os, cpu] = id.split('-') as [string, string];
      assert.deepEqual([addon.name, libtorch.name], [`@kontrast/${id}`, `@kontrast/libtorch-${id}-cpu`]);
      assert.deepEqual(addon.optionalDependencies, { [libtorch.name]: own.version });
      assert.deepEqual(addon.kontrast, { libtorch: '2.13.0', glibc: '2.28' });
      assert.deepEqual([addon.license, libtorch.license], ['MIT', 'SEE LICENSE IN LICENSE']);
      for (const manifest of [addon, libtorch]) {
        assert.equal(manifest.version, own.version);
        assert.deepEqual([manifest.os, manifest.cpu], [[os], [cpu]]);
        assert.deepEqual(manifest.libc, os === 'linux' ? ['glibc'] : undefined);
        assert.ok(manifest.preferUnplugged && './package.json' in manifest.exports);
        assert.equal(manifest.scripts, undefined);
      }
    }
  });

  it('say which C library they need, read from the compiled files', function () {
    const addon = join(root, 'build', 'Release', 'kontrast.node');
    if (process.platform !== 'linux' || !existsSync(addon)) return this.skip();
    const asked = (platform: string) =>
      evaluate<Manifest['kontrast']>(
        'requirements',
        `made.requirementsOf(${platform}, '2.13.0', [${JSON.stringify(addon)}, process.execPath])`,
      )!;
    const { libtorch, glibc, cpu } = asked("{ os: 'linux', cpu: 'x64' }");
    assert.equal(libtorch, '2.13.0');
    assert.match(glibc!, /^2\.\d+$/);
    assert.deepEqual(cpu, ['sse4_1']);
    assert.equal(asked("{ os: 'linux', cpu: 'arm64' }").cpu, undefined);
    assert.deepEqual(asked("{ os: 'darwin', cpu: 'arm64' }"), { libtorch: '2.13.0' });
  });
});
