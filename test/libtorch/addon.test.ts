import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { addonBuiltFor, findAddon, resolvePackage } from '../../src/libtorch/addon';
import { addonPackage, ownPlatform, platforms } from '../../src/libtorch/platforms';
import { writeBuildRecord } from '../../src/libtorch/record';
import { KontrastError } from '../../src/torch/errors';
import { temporaryFolder, writeFiles } from './fakes';

/** Another platform than this one. */
const stranger = platforms.find(({ id }) => id !== ownPlatform)!.id;

describe('finding the addon', () => {
  const project = temporaryFolder();
  const packageRoot = join(project, 'node_modules', 'kontrast');
  const beside = join(project, 'node_modules', '@kontrast');
  writeFiles(packageRoot, { 'package.json': JSON.stringify({ name: 'kontrast', version: '3.2.1' }) });
  writeFiles(project, { 'pnpm-lock.yaml': '' });

  const writeAddon = (platform: string, version = '3.2.1') => {
    const kontrast = { libtorch: '2.13.0', glibc: '2.28' };
    const folder = join(beside, platform);
    writeFiles(folder, { 'package.json': JSON.stringify({ name: addonPackage(platform), version, kontrast }) });
    return folder;
  };
  const find = (platform = ownPlatform) => findAddon({ packageRoot, platform, project, env: {} });
  const failure = (code: string, message: RegExp, platform?: string) => {
    assert.throws(
      () => find(platform),
      (error: unknown) => {
        assert.ok(error instanceof KontrastError && error.code === code, String(error));
        assert.match(error.message, message);
        return true;
      },
    );
  };

  it('takes the package of this platform', () => {
    const folder = writeAddon(ownPlatform);
    const requirements = { libtorch: '2.13.0', glibc: '2.28' };
    assert.deepEqual(find(), { folder, source: 'package', builtFor: '2.13', requirements });
    assert.equal(addonBuiltFor(packageRoot), '2.13');
  });

  it('prefers what was compiled in its own folder, and takes the release from the record of the build', () => {
    const build = join(packageRoot, 'build', 'Release');
    writeFiles(build, { 'kontrast.node': '' });
    assert.deepEqual(find(), { folder: build, source: 'build', builtFor: null, requirements: null });
    const record = { libtorchRoot: '/x', libtorchSource: 'python', sourcesHash: 'y' } as const;
    writeBuildRecord(packageRoot, { libtorchVersion: '2.11.0', ...record });
    assert.equal(find().builtFor, '2.11');
    assert.equal(addonBuiltFor(packageRoot), '2.11');
    rmSync(join(packageRoot, 'build'), { recursive: true });
  });

  it('refuses a package of another version, with the command that fixes it', () => {
    writeAddon(ownPlatform, '3.2.0');
    const name = addonPackage(ownPlatform);
    failure('ADDON_VERSION', new RegExp(`kontrast 3.2.1 needs ${name} of the same version, but 3.2.0 is installed`));
    failure('ADDON_VERSION', new RegExp(`Fix: pnpm add --save-optional ${name}@3.2.1$`));
  });

  it('says why a package may be missing, and the command that fixes it', () => {
    rmSync(beside, { recursive: true });
    failure(
      'ADDON_MISSING',
      /left out \(--omit=optional, --no-optional\), or a lock file was written on another platform\.\nFix: pnpm add/,
    );
    const both = `${addonPackage(ownPlatform)}@3.2.1 @kontrast/libtorch-${ownPlatform}-cpu@3.2.1`;
    failure('ADDON_MISSING', new RegExp(`Fix: pnpm add --save-optional ${both}$`));
    writeAddon(stranger);
    failure('ADDON_MISSING', new RegExp(`The one for ${stranger} is: node_modules was installed on, or copied from`));
    assert.equal(addonBuiltFor(packageRoot), undefined);
  });

  it('names the platforms there are where this is none of them', () => {
    failure(
      'ADDON_MISSING',
      /no prebuilt addon for sunos-x64; there are those for linux-x64, .*Build it from source/,
      'sunos-x64',
    );
  });

  it('tells who has the sources to compile them', () => {
    writeFiles(join(packageRoot, 'native'), { 'addon.cc': '' });
    failure('ADDON_MISSING', /is not built: .*kontrast\.node is missing\. Run `npm run setup`/);
  });

  it('sees packages that only another package sees', () => {
    const strict = join(project, 'store', 'addon');
    mkdirSync(strict, { recursive: true });
    writeFiles(join(strict, 'node_modules', 'hidden'), { 'package.json': '{}' });
    assert.equal(resolvePackage('hidden', [packageRoot]), null);
    assert.equal(resolvePackage('hidden', [packageRoot, strict]), join(strict, 'node_modules', 'hidden'));
  });
});
