import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkSpace, describePlan, freeBytesAt, type SetupPlan } from '../../src/libtorch/setup-plan';
import { temporaryFolder } from './fakes';

describe('the plan of a set-up', () => {
  const base = temporaryFolder();
  const plan: SetupPlan = {
    version: '2.13.0',
    variant: 'cu130',
    wheels: [
      {
        fileName: 'torch-2.13.0.whl',
        url: 'https://me:secret@a.invalid/torch.whl',
        size: 527e6,
        sha256: null,
        here: 0,
      },
      { fileName: 'nccl-2.whl', url: 'https://a.invalid/nccl.whl', size: 206e6, sha256: null, here: 100e6 },
      { fileName: 'nvtx-1.whl', url: 'https://a.invalid/nvtx.whl', size: 1e6, sha256: null, here: 1e6 },
      {
        fileName: 'cublas-13.whl',
        url: pathToFileURL(join(base, 'cublas.whl')).href,
        size: 423e6,
        sha256: null,
        here: 423e6,
      },
      { fileName: 'x.whl', url: 'https://b.invalid/x.whl', size: null, sha256: null, here: 0 },
    ],
    isComplete: true,
    downloadBytes: 633e6,
    installedBytes: 3.8e9,
    freeBytes: 28e9,
    folder: '/cache/libtorch-2.13.0-cu130',
  };

  it('is told with every wheel, what is here of it, and what the disk needs', () => {
    assert.deepEqual(describePlan(plan), [
      'LibTorch 2.13.0 (cu130) is made of:',
      '  torch-2.13.0.whl    527 MB',
      '  nccl-2.whl          206 MB  100 MB of it here already',
      '  nvtx-1.whl            1 MB  all of it here already',
      `  cublas-13.whl       423 MB  in ${base}`,
      '  x.whl             size not known',
      'to download   633 MB from a.invalid, b.invalid',
      'on the disk   3.8 GB in /cache/libtorch-2.13.0-cu130',
      'free there    28.0 GB',
    ]);
    assert.match(describePlan({ ...plan, isComplete: false })[6]!, /and what these require/);
    const gathered = describePlan({ ...plan, installedBytes: 0, folder: '/wheels' });
    assert.equal(gathered[7], 'goes to       /wheels');
  });

  it('is refused where the disk is too small', () => {
    checkSpace(plan);
    checkSpace({ ...plan, freeBytes: 4.433e9 });
    assert.throws(() => checkSpace({ ...plan, freeBytes: 4.4e9 }), {
      code: 'LIBTORCH_SPACE',
      message:
        /needs 4\.4 GB on the disk with \/cache .*\(633 MB to download, 3\.8 GB unpacked\), and 4\.4 GB are free\. .*KONTRAST_CACHE=<folder>\.$/,
    });
  });

  it('knows the free space of a folder that is not there yet', () => {
    assert.ok(freeBytesAt(join(base, 'not', 'there')) > 0);
  });
});
