import * as fs from 'node:fs';
import * as path from 'node:path';
import { dispose, type Tensor } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { writeSafetensors } from '../torch/safetensors';
import { toFloat } from '../data';
import { extractFeatures } from '../evaluate';
import { openTrainedRun, type RunFlags } from './build';
import { exitCodes } from './exit-codes';
import { checking } from './failure';
import { log, print } from './output';
import { checkWritable } from './writable';

/** The flags of `kontrast embed`. */
export interface EmbedFlags extends RunFlags {
  output: string;
  overwrite?: boolean;
}

/** `kontrast embed <run> --output <file>`; returns the exit code. */
export async function embed(target: string, flags: EmbedFlags): Promise<number> {
  const { recipe, checkpoint, evaluation } = await checking(async () => {
    const place = fs.statSync(flags.output, { throwIfNoEntry: false });
    if (place?.isDirectory() === true) {
      throw new InvalidArgumentError(`'${flags.output}' is a folder: name a file with --output`);
    }
    if (place !== undefined && flags.overwrite !== true) {
      throw new InvalidArgumentError(
        `'${flags.output}' is there already: replace it with --overwrite, or choose another name`,
      );
    }
    if (!fs.existsSync(path.dirname(path.resolve(flags.output)))) {
      throw new InvalidArgumentError(
        `there is no folder '${path.dirname(flags.output)}' for the output: make it first`,
      );
    }
    checkWritable(path.dirname(flags.output), '--output');
    const opened = await openTrainedRun(target, flags);
    if (opened.run.evaluation === undefined) {
      throw new InvalidArgumentError(`recipe '${opened.recipe.name}' names nothing to embed (it has no evaluation)`);
    }
    return { ...opened, evaluation: opened.run.evaluation };
  });

  const { encoder, train, test, normalize, autocast, batchSize } = evaluation;
  const transform = (images: Tensor): Tensor =>
    normalize === undefined ? toFloat(images) : normalize(toFloat(images));
  const tensors = new Map<string, Tensor>();
  const features: Tensor[] = [];
  for (const [name, images] of Object.entries({ train, test })) {
    log(`embedding ${images.size} images of '${name}'`);
    const embeddings = extractFeatures({ module: encoder, images, transform, autocast, batchSize });
    features.push(embeddings);
    tensors.set(`${name}.embeddings`, embeddings);
    tensors.set(`${name}.labels`, images.labels);
  }
  writeSafetensors(flags.output, tensors, {
    recipe: recipe.name,
    checkpoint: path.basename(checkpoint),
    classNames: JSON.stringify(train.classNames),
  });
  dispose(features);
  print(`embeddings: ${path.resolve(flags.output)}`);
  return exitCodes.ok;
}
