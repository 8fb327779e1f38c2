// The package.json of each npm package that is published: pure functions, so that those of platforms that are built elsewhere can be
// made and tested here.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { addonPackage, libtorchPackage, platforms } = require('../../dist/libtorch/platforms.js');

export { addonPackage, libtorchPackage, platforms };

/** What all packages have in common. */
function common(root) {
  const { version, license, author, engines, repository, homepage, bugs } = root;
  return { version, license, author, engines, repository, homepage, bugs };
}

/** Fields by which npm and others leave out what is for other platforms; Yarn is told to unpack what cannot be opened in an archive. */
function only({ os, cpu, libc }) {
  return { os: [os], cpu: [cpu], ...(libc === undefined ? {} : { libc: [libc] }), preferUnplugged: true };
}

function sorted(entries) {
  return Object.fromEntries(Object.entries(entries).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** `kontrast` itself: what was compiled from TypeScript, with the addons of all platforms as optional dependencies. */
export function kontrastManifest(root) {
  // What builds it is not there, and everything in the folder belongs to it.
  const building = new Set(['devDependencies', 'scripts', 'gypfile', 'binary', 'files']);
  return {
    ...Object.fromEntries(Object.entries(root).filter(([field]) => !building.has(field))),
    optionalDependencies: sorted(Object.fromEntries(platforms.map(({ id }) => [addonPackage(id), root.version]))),
  };
}

/** The package with the addon of one platform; `requirements` are `AddonRequirements` of src/libtorch/addon.ts. */
export function addonManifest(root, platform, requirements) {
  return {
    name: addonPackage(platform.id),
    description: `The compiled part of kontrast for ${platform.id}`,
    ...common(root),
    ...only(platform),
    files: ['kontrast.node', 'kontrast_loader.node'],
    exports: { './package.json': './package.json', './kontrast.node': './kontrast.node' },
    // Optional, so that those who have a LibTorch of their own can leave it out.
    optionalDependencies: { [libtorchPackage(platform.id)]: root.version },
    kontrast: requirements,
  };
}

/** The package with LibTorch for the CPU of one platform. */
export function libtorchManifest(root, platform, libtorch) {
  return {
    name: libtorchPackage(platform.id),
    description: `LibTorch ${libtorch} for the CPU, for kontrast on ${platform.id}`,
    ...common(root),
    // PyTorch's own, which is BSD's with three clauses; what it holds of others has theirs, in licenses/.
    license: 'SEE LICENSE IN LICENSE',
    ...only(platform),
    files: ['lib', 'licenses', 'build-version'],
    exports: { './package.json': './package.json' },
    kontrast: { libtorch },
  };
}
