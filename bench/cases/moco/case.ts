import { spawnSync } from 'node:child_process';
import path from 'node:path';
import type { Case, Implementation, JsonObject } from '../../harness/case';
import { python, typescript } from '../../harness/programs';
import { recipe } from './recipe';

const ours = (name: string, options: JsonObject): Implementation => ({
  name,
  launch: () => typescript(path.join(__dirname, 'ours.ts')),
  options,
});

/** The training step of the quickstart: both encoders, InfoNCE against the queue, backward, AdamW, moving average. */
export const benchmark: Case = {
  name: 'moco',
  title: 'training momentum contrast: the same network on the same augmented batches',
  unit: 'image',
  rounds: 9,
  warmup: 2,
  tasks: [{ name: 'training', options: {} }],
  implementations: [
    ours('kontrast, float32', { precision: 'float32', memoryFormat: 'channels_last' }),
    // In PyTorch's default memory format, as the peer has it.
    ours('kontrast, float32, contiguous', { precision: 'float32', memoryFormat: 'contiguous_format' }),
    {
      // What the quickstart chooses here: bfloat16 keeps 3 digits, so its losses only have to be near.
      ...ours('kontrast', { precision: 'auto', memoryFormat: 'channels_last' }),
      tolerance: { relative: 0.02, absolute: 0 },
    },
    { name: 'pytorch', launch: () => python(path.join(__dirname, 'peer.py')), options: { recipe } },
  ],
  reference: 'pytorch',
  tolerance: { relative: 2e-3, absolute: 0 },
  goals: [
    { kind: 'speed ratio', task: 'training', implementation: 'kontrast, float32', against: 'pytorch', atLeast: 1 },
    { kind: 'speed ratio', task: 'training', implementation: 'kontrast', against: 'pytorch', atLeast: 1.3 },
  ],
  prepare({ folder, root }) {
    // In a process of its own: the harness itself never loads LibTorch.
    const { command, arguments: parameters } = typescript(path.join(__dirname, 'prepare.ts'), folder);
    const child = spawnSync(command, parameters, { cwd: root, encoding: 'utf8' });
    if (child.status !== 0) {
      throw new Error(`the shared weights and batches could not be made: ${child.error?.message ?? child.stderr}`);
    }
    return { folder };
  },
};
