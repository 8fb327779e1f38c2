import { InvalidArgumentError, noGrad, scope, type Tensor } from '../torch';
import { Conv2d, Linear, Sequential, type AnyModule, type Module } from '../nn';
import { BatchNorm } from './batch-norm';
import { ConvBN2d } from './conv-bn2d';
import type { NormPair } from './folded-layer';
import { inMode, withForward } from './observe-forward';
import { WeightStandardizedConv2d } from './weight-standardized-conv2d';

/** What stands between a model and its pairs, for an error. @internal */
export interface Pairing {
  pairs: NormPair[];
  /** Batch normalisation that follows no layer, by path, and why. */
  unpaired: Map<string, string>;
}

/**
 * Which layers are followed by batch normalisation, and by nothing else. With an input the model is run once in evaluation mode: a pair
 * is a layer whose very output a norm is given. Without one the structure tells: neighbours in a `Sequential`, and
 * children called alike, `conv1` and `bn1`.
 *
 * @internal
 */
export function findNormPairs(model: AnyModule, input: Tensor | null): Pairing {
  const inside = new Set(
    model.modules().flatMap((module) => (module instanceof ConvBN2d ? module.modules().slice(1) : [])),
  );
  const paths = new Map([...model.namedModules()].map(([path, module]) => [module, path] as const));
  const followers = input === null ? byStructure(model) : byTrace(model as Module, input);
  const uses = new Map<AnyModule, number>();
  for (const module of model.modules()) {
    for (const child of module.namedChildren().values()) uses.set(child, (uses.get(child) ?? 0) + 1);
  }
  const pairs: NormPair[] = [];
  const unpaired = new Map<string, string>();
  for (const [norm, path] of paths) {
    if (!(norm instanceof BatchNorm) || inside.has(norm)) continue;
    const layer = followers.get(norm);
    const reason = typeof layer === 'string' ? layer : whyNot(layer, norm, uses);
    if (reason === null) pairs.push({ layer: layer as Conv2d | Linear, norm });
    else unpaired.set(path, reason);
  }
  const twice = pairs.filter(({ layer }, index) => pairs.findIndex((pair) => pair.layer === layer) !== index);
  for (const { layer, norm } of twice)
    unpaired.set(paths.get(norm)!, `'${paths.get(layer)!}' has another norm as well`);
  return { pairs: pairs.filter((pair) => !twice.some(({ layer }) => layer === pair.layer)), unpaired };
}

/** @throws InvalidArgumentError listing the norms that were not paired. @internal */
export function refuseUnpaired(what: string, unpaired: ReadonlyMap<string, string>): void {
  if (unpaired.size === 0) return;
  const list = [...unpaired].map(([path, reason]) => `${path === '' ? 'the model itself' : path}: ${reason}`);
  throw new InvalidArgumentError(
    `${what}: cannot tell which layer some norms belong to (give an input by the option check, or set unpaired: 'keep'):\n  ` +
      list.join('\n  '),
  );
}

function whyNot(layer: AnyModule | undefined, norm: BatchNorm, uses: ReadonlyMap<AnyModule, number>): string | null {
  if (layer === undefined) return 'follows no convolution or linear layer';
  if (!isFoldable(layer)) return `follows a ${layer.constructor.name}, which has a forward pass of its own`;
  const size = layer instanceof Linear ? layer.outFeatures : layer.outChannels;
  if (size !== norm.features) return `has ${norm.features} features, but what it follows gives ${size}`;
  if (norm.runningMean === null || norm.runningVar === null) return 'keeps no running statistics';
  if ((uses.get(layer) ?? 0) > 1 || (uses.get(norm) ?? 0) > 1)
    return 'stands in several places, or what it follows does';
  return null;
}

/** A subclass may compute anything; those known to only make their weight anew are welcome. */
function isFoldable(layer: AnyModule): layer is Conv2d | Linear {
  if (layer instanceof WeightStandardizedConv2d) return layer.forward === WeightStandardizedConv2d.prototype.forward;
  if (layer instanceof Conv2d) return layer.forward === Conv2d.prototype.forward;
  return layer instanceof Linear && layer.forward === Linear.prototype.forward;
}

type Followers = Map<AnyModule, AnyModule | string>;

function byStructure(model: AnyModule): Followers {
  const found: Followers = new Map();
  for (const module of model.modules()) {
    const children = [...module.namedChildren()];
    if (module instanceof Sequential) {
      children.forEach(([, child], index) => {
        if (index > 0 && child instanceof BatchNorm) found.set(child, children[index - 1]![1]);
      });
      continue;
    }
    const byName = new Map(children);
    for (const [name, child] of children) {
      const number = /^(?:bn|norm)(\d*)$/.exec(name)?.[1];
      if (number === undefined || !(child instanceof BatchNorm)) continue;
      const layer = byName.get(`conv${number}`) ?? byName.get(`fc${number}`) ?? byName.get(`linear${number}`);
      if (layer !== undefined) found.set(child, layer);
    }
  }
  for (const [norm, layer] of found) {
    if (layer instanceof Conv2d || layer instanceof Linear) continue;
    found.set(norm, `follows a ${(layer as AnyModule).constructor.name}, which is no convolution or linear layer`);
  }
  return found;
}

function byTrace(model: Module, input: Tensor): Followers {
  const found: Followers = new Map();
  const calls = new Map<AnyModule, number>();
  const source = new Map<unknown, AnyModule>();
  const watched = model.modules().filter((module) => isFoldable(module) || module instanceof BatchNorm);
  noGrad(() => {
    scope(() => {
      inMode(model, false, () =>
        withForward(
          watched,
          (module, inputs, compute) => {
            calls.set(module, (calls.get(module) ?? 0) + 1);
            if (module instanceof BatchNorm) {
              const layer = source.get(inputs[0]);
              if (layer !== undefined) found.set(module, layer);
              return compute();
            }
            const output = compute();
            source.set(output, module);
            return output;
          },
          () => model.forward(input),
        ),
      );
    });
  });
  for (const [norm, layer] of found) {
    const most = Math.max(calls.get(norm) ?? 0, calls.get(layer as AnyModule) ?? 0);
    if (most > 1) found.set(norm, `it or what it follows is called ${most} times in one pass`);
  }
  for (const module of watched) {
    if (module instanceof BatchNorm && !calls.has(module)) found.set(module, 'is not called for this input');
  }
  return found;
}
