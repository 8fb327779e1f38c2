import assert from 'node:assert/strict';
import * as k from '../../src/contrast';
import { scope, torch, type Tensor } from '../../src/torch';
import { assertClose } from '../support/close';
import { golden } from '../support/golden';

interface Case {
  name: string;
  preset: string;
  /** The library's class, or whose formula it is. */
  peer: string;
  /** The tensors that learn and those that do not: by role, the name in the set. */
  inputs: Record<string, string>;
  fixed: Record<string, string>;
  options: Record<string, unknown>;
  atol?: number;
}

type Roles = Record<string, Tensor>;
type Execution = 'dense' | 'tiled';

const viewsOf = (t: Roles): Tensor[] => ['view0', 'view1', 'view2'].flatMap((name) => t[name] ?? []);
const range = (count: number): Tensor => torch.arange(count, { dtype: 'int64' });

/** What the cases call, given the roles' tensors and the options. */
const presets: Record<string, (t: Roles, options: never) => Tensor> = {
  alignmentAndUniformity: (t, o) => k.alignmentAndUniformity(t.first!, t.second!, o),
  cacr: (t, o) => k.cacr(viewsOf(t), o),
  cccWav2Vec2: (t, o) => {
    const common = { negatives: t.negatives!, clusters: t.clusters! };
    return k.cccWav2Vec2(
      { ...common, contexts: t.context!, targets: t.target! },
      { ...common, contexts: t.otherContext!, targets: t.otherTarget! },
      o,
    );
  },
  clhe: (t, o) => k.clhe([t.first!, t.second!], [t.bundle0!, t.bundle1!], o),
  clip: (t, o) => k.clip(t.first!, t.second!, o),
  co2: (t, o: object) => k.co2(t.first!, t.second!, { ...o, ...(t.negatives && { negatives: t.negatives }) }),
  conan: (t, o) =>
    k.conan(
      {
        retrieval: { queries: t.anchors!, positives: t.positives!, negatives: t.negatives! },
        similarity: { first: t.first!, second: t.second!, targets: t.targets! },
      },
      o,
    ),
  contrast: (t, o: { link?: string }) => {
    const { link, ...options } = o;
    return k.contrast({
      ...options,
      anchors: t.anchors!,
      ...(t.labels && { labels: t.labels }),
      ...(t.positives && { positives: t.positives }),
      ...(t.negatives && { negatives: t.negatives }),
      ...(t.candidates && {
        candidates: { embeddings: t.candidates, ...(t.candidateLabels && { labels: t.candidateLabels }) },
      }),
      ...(link === 'softmaxOfSum' && { link: k.softmaxOfSumLink }),
    });
  },
  cosent: (t, o) => k.cosent(t.first!, t.second!, t.targets!, o),
  curl: (t, o) => k.curl(t.anchors!, t.positives!, o),
  creamFl: (t, o) => {
    const [embeddings, same, other] = [t.embeddings!, t.same!, t.other!];
    return k.creamFl({ embeddings, same, other, previous: t.previous!, positions: t.positions! }, o);
  },
  cse: (t, o) => k.cse(t.first!, t.second!, t.defective!, o),
  curlBlock: (t, o) => k.curlBlock(t.anchors!, t.positives!, t.negatives!, o),
  dcl: (t, o) => k.dcl(viewsOf(t), o),
  dclW: (t, o) => k.dclW(viewsOf(t), o),
  dclr: (t, o: object) =>
    k.dclr(t.first!, t.second!, {
      ...o,
      guides: { first: t.guideFirst!, second: t.guideSecond! },
      noise: t.noise!,
    }),
  debiased: (t, o) => k.debiased(viewsOf(t), o),
  dexml: (t, o: { execution: Execution }) => {
    const [anchors, labels] = [t.anchorClasses!, t.labelClasses!];
    // A matrix of targets is dense.
    const isMatrix = o.execution === 'dense';
    const targets = isMatrix ? anchors.unsqueeze(1).eq(labels.unsqueeze(0)) : { anchors, labels };
    return k.dexml(t.anchors!, t.labels!, targets, o);
  },
  directClr: (t, o) => k.directClr(t.first!, t.second!, o),
  falseNegativeAttraction: (t, o) => k.falseNegativeAttraction(viewsOf(t), o),
  falseNegativeElimination: (t, o) => k.falseNegativeElimination(viewsOf(t), o),
  gatedContrastive: (t, o) => {
    const classes = { anchors: t.anchorClasses!, partners: t.partners!, candidates: t.candidateClasses! };
    return k.gatedContrastive(t.anchors!, t.candidates!, t.gates!, classes, o);
  },
  generativeContrastiveAlignment: (t, o) => k.generativeContrastiveAlignment(t.first!, t.second!, o),
  gist: (t, o: object) => {
    const guides = { anchors: t.guideAnchors!, positives: t.guidePositives! };
    return t.negatives
      ? k.gist(t.anchors!, t.positives!, { ...guides, negatives: t.guideNegatives! }, { ...o, negatives: t.negatives })
      : k.gist(t.anchors!, t.positives!, guides, o);
  },
  groco: (t, o) => k.groco(viewsOf(t), o),
  hardContrastive: (t, o) => k.hardContrastive(t.anchors!, t.positives!, o),
  hardNegative: (t, o) => k.hardNegative(viewsOf(t), o),
  hardnessWeighted: (t, o: object) => k.hardnessWeighted(t.anchors!, t.positives!, { ...o, negatives: t.negatives! }),
  infoNce: (t, o: object) => {
    // eslint-disable-next-line @typescript-eslint/no-unused-vars
    const { execution, ...options } = o as { execution: Execution };
    return new k.InfoNCE(options).forward(t.query!, t.positive!, t.negatives);
  },
  infoNceBound: (t) => k.infoNceBound(t.scores!),
  linearCrossEntropy: (t, o: object) =>
    k.linearCrossEntropy(t.embeddings!, t.classes!, t.targets!, { ...o, bias: t.bias! }),
  macl: (t, o) => k.macl(t.first!, t.second!, o),
  matryoshka: (t, o: { execution: Execution } & k.MatryoshkaOptions) =>
    k.matryoshka([t.anchors!, t.positives!], (pair) => k.multipleNegatives(...pair, { execution: o.execution }), o),
  meow: (t, o) => k.meow(t.first!, t.second!, [t.clusters0!, t.clusters1!, t.clusters2!], o),
  modalityPairwise: (t, o) => k.modalityPairwise({ one: t.first!, two: t.second!, three: t.third! }, o),
  multipleNegatives: (t, o: object) =>
    k.multipleNegatives(t.anchors!, t.positives!, { ...o, ...(t.negatives && { negatives: t.negatives }) }),
  nnclr: (t, o: object) =>
    k.nnclr(t.first!, t.second!, t.support!, { ...o, predictions: [t.prediction0!, t.prediction1!] }),
  nonNegativeContrastive: (t, o) => k.nonNegativeContrastive(t.first!, t.second!, o),
  nwjBound: (t) => k.nwjBound(t.scores!),
  ntXent: (t, o) => k.ntXent(viewsOf(t), o),
  patchNce: (t, o) => k.patchNce([t.output!], [t.input!], o),
  pnda: (t, o) => k.pnda(t.first!, t.second!, [t.rotated0!, t.rotated1!], t.similar!, o),
  prototypeContrast: (t, o: object) =>
    k.prototypeContrast(t.embeddings!, t.prototypes!, t.clusters!, { ...o, concentrations: t.concentrations! }),
  saFas: (t, o) => k.saFas(viewsOf(t), t.labels!, t.domains!, o),
  sbcl: (t, o) => k.sbcl(viewsOf(t), t.labels!, t.subclasses!, o),
  scav: (t, o) => k.scav(t.first!, t.second!, o),
  sequenceDistances: (t, o) => k.sequenceDistances(t.first!, t.second!, o),
  siglip: (t, o) => k.siglip(t.first!, t.second!, o),
  socialNce: (t, o) => k.socialNce(t.motions!, t.positives!, t.negatives!, o),
  softSort: (t, o) => {
    const { permutation } = k.softSort(t.values!, o);
    const size = permutation.sizeOf(1);
    return permutation.mul(range(size * size).to('float64').reshape([size, size]).sin()).sum(); // prettier-ignore
  },
  supCon: (t, o) => k.supCon(t.embeddings!, t.labels!, o),
  supReMix: (t, o: object) => k.supReMix(viewsOf(t), t.targets!, { ...o, shares: t.shares! }),
  uniClr: (t, o) => k.uniClr([t.inlier0!, t.inlier1!], [t.outlier0!, t.outlier1!], o),
};

/** Those without a tiled form. */
const dense = new Set(
  (
    'cacr cccWav2Vec2 cosent cse curlBlock gatedContrastive groco infoNce infoNceBound nwjBound scav sequenceDistances socialNce ' +
    'softSort supReMix'
  ).split(' '),
);

describe('contrastive objectives equal those of other libraries', () => {
  const { tensors, values } = golden<{ cases: Case[] }>('contrast');

  it('every case has its preset, every preset a case', () => {
    assert.deepEqual([...new Set(values.cases.map(({ preset }) => preset))].sort(), Object.keys(presets).sort());
  });

  for (const { name, preset, peer, inputs, fixed, options, atol = 1e-11 } of values.cases) {
    it(`${name}: ${peer}`, () => {
      for (const execution of dense.has(preset) ? (['dense'] as const) : (['dense', 'tiled'] as const)) {
        scope(() => {
          const learning = Object.entries(inputs).map(
            ([role, key]) => [role, tensors[key]!.clone().requiresGrad_()] as const,
          );
          const others = Object.entries(fixed).map(([role, key]) => [role, tensors[key]!] as const);
          const roles = Object.fromEntries([...learning, ...others]);
          const loss = presets[preset]!(roles, { ...options, execution } as never);
          assertClose(loss, tensors[`${name}.loss`]!, { atol, rtol: 1e-11 }, `${execution}: loss`);
          loss.sum().backward();
          for (const [role, tensor] of learning) {
            const expected = tensors[`${name}.${role}`];
            if (expected === undefined) assert.equal(tensor.grad, null, `${execution}: ${role} has no gradient`);
            else assertClose(tensor.grad!, expected, { atol, rtol: 1e-10 }, `${execution}: gradient of ${role}`);
          }
        });
      }
    });
  }
});
