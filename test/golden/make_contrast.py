"""
Contrastive objectives as peer libraries compute them: values and gradients in float64.

Made with torch 2.13.0, lightly 1.6.0, pytorch-metric-learning 2.9.0, sentence-transformers 6.2.0, transformers 5.23.0, open_clip_torch
3.3.0, info-nce-pytorch 0.1.4, diffsort 0.2.0, fastdtw 0.3.4 and POT 0.9.7.post1. Install torch, sentence-transformers and POT, then the others with
`pip install --no-deps`, and run `python test/golden/make_contrast.py`. torchvision and timm are not needed: see `without_init`.

Each case names the library's class. Where it says "formula of", the loss is written here anew from the formula that the named authors' code
computes, in plain PyTorch.
"""
import importlib.util
import logging
import math
import os
import sys
import types

import fastdtw
import numpy as np
import ot
import torch
import torch.nn.functional as F
from diffsort import DiffSortNet
from info_nce import info_nce
from pytorch_metric_learning import distances, losses as pml, reducers
from sentence_transformers.sentence_transformer import losses as st
from sentence_transformers.util import dot_score
from torch import nn
from transformers import PreTrainedTokenizerBase, Wav2Vec2ForPreTraining

from golden import write


def without_init(*packages):
    """Makes modules of packages importable without what their __init__ imports: data loaders and models that losses do not need."""
    for package in packages:
        module = types.ModuleType(package)
        parts = package.split(".")
        root = importlib.util.find_spec(parts[0]) if parts[0] not in sys.modules else None
        origin = os.path.dirname(root.origin) if root else list(sys.modules[parts[0]].__path__)[0]
        module.__path__ = [os.path.join(origin, *parts[1:])]
        sys.modules[package] = module


vision = types.ModuleType("torchvision.ops")
vision.StochasticDepth = nn.Identity
sys.modules["torchvision"], sys.modules["torchvision.ops"] = types.ModuleType("torchvision"), vision
without_init("lightly", "lightly.loss", "lightly.loss.regularizer", "lightly.models", "lightly.models.modules", "lightly.utils", "open_clip")
from lightly.loss.dcl_loss import DCLLoss, DCLWLoss
from lightly.loss.directclr_loss import DirectCLRLoss
from lightly.loss.hypersphere_loss import HypersphereLoss
from lightly.loss.macl_loss import MACLLoss
from lightly.loss.ntx_ent_loss import NTXentLoss
from lightly.loss.regularizer.co2 import CO2Regularizer
from lightly.models.modules.nn_memory_bank import NNMemoryBankModule
from open_clip.loss import ClipLoss, SigLipLoss

logging.disable(logging.WARNING)
torch.set_default_dtype(torch.float64)
torch.manual_seed(11)

N, D = 6, 5
tensors = {
    "x": torch.randn(N, D),
    "y": torch.randn(N, D),
    "z": torch.randn(N, D),
    "near": None,
    "queue": torch.randn(7, D),
    "hard": torch.randn(N, 2, D),
    "several": torch.randn(N, 3, D),
    "bias": torch.randn(7),
    "guideX": torch.randn(N, 3),
    "guideY": torch.randn(N, 3),
    "guideZ": torch.randn(N, 3),
    "scores": 2 * torch.randn(N, N),
    "frames": torch.randn(3, 4, D),
    "otherFrames": torch.randn(3, 6, D),
    "layer": torch.randn(2, 4, 3),
    "otherLayer": torch.randn(2, 4, 3),
    # One class has one sample only.
    "labels": torch.tensor([0, 1, 0, 2, 1, 0]),
    "queueLabels": torch.tensor([1, 0, 0, 3, 2, 1, 0]),
    "subclasses": torch.tensor([0, 2, 0, 3, 2, 1]),
    "domains": torch.tensor([0, 1, 0, 0, 1, 1]),
    "targets": torch.tensor([3, 0, -100, 6, 3, 1]),
    "clusters": torch.tensor([3, 0, 2, 6, 3, 1]),
    "grades": torch.tensor([0.1, 0.9, 0.9, 0.4, 0.0, 0.4]),
    "similar": torch.tensor([True, False, False, True, True, False]),
    "bank": torch.randn(7, D),
    "partners": torch.tensor([1, 1, 2, 0, 0, 3]),
    "ages": torch.tensor([3.0, 1.0, 4.5, 1.0, 6.0, 9.0]),
    "defective": torch.tensor([False, True]),
    "shares": torch.rand(2 * N, 2 * N),
    "gates": torch.rand(N, D),
    "drawn": torch.tensor([[1, 2, 5], [0, 4, 3], [4, 0, 1], [5, 1, 0], [1, 3, 2], [0, 2, 3]]),
    "noise": torch.randn(4, D),
    "frames0": torch.randn(3, D),
    "frames1": torch.randn(3, D),
    "concentrations": torch.tensor([0.1, 0.3, 0.5, 0.2, 0.4, 0.7, 0.05]),
}
# A second view like the first, so that weights and limits that depend on it differ from those of noise.
tensors["near"] = tensors["x"] + 0.5 * tensors["z"]
cases = []


def case(preset, peer, inputs, loss, options=None, fixed=None, atol=None):
    """
    Adds a case. `inputs` names the tensors that learn, by the role that the test knows them by, `fixed` those that do not; `loss` gets the first
    by role.
    """
    name = f"{len(cases)}.{preset}"
    leaves = {role: tensors[key].clone().requires_grad_() for role, key in inputs.items()}
    value = loss(**leaves)
    value.sum().backward()
    tensors[name + ".loss"] = value
    for role, leaf in leaves.items():
        if leaf.grad is not None:
            tensors[f"{name}.{role}"] = leaf.grad
    cases.append({"name": name, "preset": preset, "peer": peer, "inputs": inputs, "fixed": fixed or {}, "options": options or {},
                  **({} if atol is None else {"atol": atol})})


def unit(x):
    return F.normalize(x, dim=-1)


def banked(loss):
    """lightly draws its bank itself: here it is the queue. It keeps it of length one."""
    loss.memory_bank.bank = unit(tensors["queue"])
    return loss


two = {"view0": "x", "view1": "y"}
alike = {"view0": "x", "view1": "near"}
pair = {"first": "x", "second": "y"}
taus = (0.05, 0.5)

# --- Views ---
for tau in taus:
    case("ntXent", "lightly NTXentLoss", two, lambda view0, view1: NTXentLoss(tau)(view0, view1), {"temperature": tau})
    case("ntXent", "pytorch-metric-learning SelfSupervisedLoss(NTXentLoss)", alike,
         lambda view0, view1: pml.SelfSupervisedLoss(pml.NTXentLoss(tau))(view0, view1), {"temperature": tau})
    # All views of a sample as one class is SupCon.
    case("ntXent", "pytorch-metric-learning SupConLoss", {**two, "view2": "z"},
         lambda **views: pml.SupConLoss(tau)(torch.cat(list(views.values())), torch.arange(N).repeat(3)), {"temperature": tau})
    case("dcl", "lightly DCLLoss", alike, lambda view0, view1: DCLLoss(tau)(view0, view1), {"temperature": tau})
case("nonNegativeContrastive", "lightly NTXentLoss after relu", pair, lambda first, second: NTXentLoss(0.2)(first.relu(), second.relu()),
     {"temperature": 0.2, "activation": "relu"})
case("directClr", "lightly DirectCLRLoss", pair, lambda first, second: DirectCLRLoss(3, 0.1)(first, second),
     {"temperature": 0.1, "dimensions": 3, "candidates": "allViews"})
for sigma in (0.5, 0.1):
    case("dclW", "lightly DCLWLoss", alike, lambda view0, view1: DCLWLoss(0.1, sigma)(view0, view1),
         {"temperature": 0.1, "sigma": sigma, "detachWeights": True})


def dcl_w_of_sums(view0, view1, tau=0.1, sigma=0.5):
    a, b = unit(view0), unit(view1)
    own = (a * b).sum(1)
    pulled = own * (2 - (own / sigma).softmax(0)) / tau
    apart = ~torch.eye(N, dtype=torch.bool).repeat(1, 2)
    ways = [torch.cat([p @ p.T, p @ q.T], 1)[apart].view(N, -1).div(tau).logsumexp(1) for p, q in ((a, b), (b, a))]
    return (torch.stack(ways) - pulled).mean()


case("dclW", "formula of Decoupled Contrastive Learning's public code", alike, dcl_w_of_sums,
     {"temperature": 0.1, "sigma": 0.5, "normalize": "sum"})

for alpha, start in ((0.5, 0.0), (1.0, 0.3)):
    # It adds 1e-8 to 1 − P.
    case("macl", "lightly MACLLoss", {"first": "x", "second": "near"}, lambda first, second: MACLLoss(0.2, alpha, start)(first, second),
         {"temperature": 0.2, "alpha": alpha, "initialAlignment": start}, atol=1e-6)
for power, scale, weight in ((2, 2, 1), (1, 3, 0.5)):
    case("alignmentAndUniformity", "lightly HypersphereLoss", pair,
         lambda first, second: HypersphereLoss(t=scale, lam=weight, alpha=power)(first, second), {"power": power, "scale": scale, "weight": weight})


def corrected(view0, view1, tau, share, beta):
    both = unit(torch.cat([view0, view1]))
    apart = ~torch.eye(N, dtype=torch.bool).repeat(2, 2)
    negatives = (both @ both.T / tau)[apart].view(2 * N, -1).exp()
    positives = ((unit(view0) * unit(view1)).sum(1) / tau).exp().repeat(2)
    count = negatives.size(1)
    weights = negatives**beta
    sums = ((weights * negatives).sum(1) / weights.mean(1) - share * count * positives) / (1 - share)
    return -(positives / (positives + sums.clamp(min=count * math.exp(-1 / tau)))).log().mean()


for tau, share in ((0.5, 0.1), (0.5, 0.4), (0.1, 0.05)):
    case("debiased", "formula of Debiased Contrastive Learning's authors' code", alike, lambda view0, view1: corrected(view0, view1, tau, share, 0),
         {"temperature": tau, "tauPlus": share})
for tau, share, beta in ((0.5, 0.1, 1), (0.5, 0.3, 2.5), (0.1, 0, 0.5)):
    case("hardNegative", "formula of HCL's authors' code", alike, lambda view0, view1: corrected(view0, view1, tau, share, beta),
         {"temperature": tau, "tauPlus": share, "beta": beta})


def attraction_and_repulsion(views, attraction, repulsion, near, far):
    z = [unit(view) for view in views]
    pulled = []
    for v, view in enumerate(z):
        squares = torch.stack([(view - other).square().sum(1) for u, other in enumerate(z) if u != v], 1)
        pulled.append((attraction * squares * (near * squares).softmax(1)).sum(1).mean())
    pushed = []
    for v, view in enumerate(z):
        for other in z[v + 1:]:
            squares = (view[:, None] - other).square().sum(2)[~torch.eye(N, dtype=torch.bool)].view(N, -1)
            pushed.append((-repulsion * squares * (-far * squares).softmax(1)).sum(1).mean())
    return torch.stack(pulled).mean() + torch.stack(pushed).mean()


case("cacr", "formula of CACR's authors' code", two, lambda **views: attraction_and_repulsion(views.values(), 1, 1, 1, 1))
case("cacr", "formula of CACR's authors' code", {**two, "view2": "z"},
     lambda **views: attraction_and_repulsion(views.values(), 1, 2, 0.5, 3),
     {"repulsion": 2, "positiveScale": 0.5, "negativeScale": 3})

# Its forward copies the divergence, which then has no gradient: these are its parts without that.
for tau, bank in ((0.05, False), (0.5, False), (0.05, True)):
    def divergence(first, second):
        term = CO2Regularizer(t_consistency=tau, memory_bank_size=(7, D) if bank else 0)
        negatives = unit(tensors["queue"]).T if bank else None
        a, b = unit(first), unit(second)
        p, q = term._get_pseudo_labels(a, b, negatives), term._get_pseudo_labels(b, a, negatives)
        loss = (term.kl_div(p, q) + term.kl_div(q, p)) / 2
        (banked(term) if bank else term).eval()
        assert torch.allclose(term(first.detach(), second.detach()), loss.detach())
        return loss
    case("co2", "lightly CO2Regularizer", pair, divergence, {"temperature": tau, "includePositive": True}, {"negatives": "queue"} if bank else None)


def neighbours(view):
    bank = NNMemoryBankModule(size=(7, D))
    bank.bank = tensors["queue"].clone()
    return bank(view.detach())


for tau in taus:
    case("nnclr", "lightly NNMemoryBankModule, formula of solo-learn", {**pair, "prediction0": "z", "prediction1": "near"},
         lambda first, second, prediction0, prediction1: (F.cross_entropy(unit(neighbours(first)) @ unit(prediction1).T / tau, torch.arange(N))
                                                          + F.cross_entropy(unit(neighbours(second)) @ unit(prediction0).T / tau, torch.arange(N))) / 2,
         {"temperature": tau}, {"support": "queue"})



def pairs_of(positive, negative):
    """What pytorch-metric-learning takes instead of labels."""
    return (*positive.nonzero(as_tuple=True), *negative.nonzero(as_tuple=True))


twice = torch.arange(N).repeat(2)
same_sample = (twice[:, None] == twice) & ~torch.eye(2 * N, dtype=torch.bool)


def rotated_copies(first, second, rotated0, rotated1):
    similar = tensors["similar"].repeat(2) & (twice[:, None] == twice)
    positive = torch.cat([same_sample, similar, torch.zeros(2 * N, 0, dtype=torch.bool)], 1)
    counts = torch.cat([~torch.eye(2 * N, dtype=torch.bool), torch.ones(2 * N, 2 * N, dtype=torch.bool)], 1)
    return pml.SupConLoss(0.5)(torch.cat([first, second]), None, pairs_of(positive, counts & ~positive),
                               ref_emb=torch.cat([first, second, rotated0, rotated1]), ref_labels=None)


case("pnda", "pytorch-metric-learning SupConLoss with pairs", {"first": "x", "second": "near", "rotated0": "y", "rotated1": "z"}, rotated_copies,
     {}, {"similar": "similar"})


def found(views, threshold, most):
    """The false negatives of each sample, by the nearest of its views."""
    z = unit(torch.cat(views).detach())
    scores = torch.maximum(*(unit(view.detach()) @ z.T for view in views)).masked_fill(torch.arange(N)[:, None] == twice, -torch.inf)
    return ((scores >= scores.topk(most, 1).values[:, -1:]) & (scores > threshold)).repeat(2, 1)


def without_false(view0, view1, threshold, most):
    false = found([view0, view1], threshold, most)
    assert 0 < false.sum() < false.numel()
    negative = ~same_sample & ~torch.eye(2 * N, dtype=torch.bool) & ~false
    return pml.SupConLoss(0.2)(torch.cat([view0, view1]), None, pairs_of(same_sample, negative))


def with_false(view0, view1, threshold, most):
    positive = same_sample | found([view0, view1], threshold, most)
    return pml.SupConLoss(0.2)(torch.cat([view0, view1]), None, pairs_of(positive, ~positive & ~torch.eye(2 * N, dtype=torch.bool)))


for preset, loss in (("falseNegativeElimination", without_false), ("falseNegativeAttraction", with_false)):
    case(preset, "pytorch-metric-learning SupConLoss with pairs", alike, lambda view0, view1: loss(view0, view1, 0.2, 3),
         {"temperature": 0.2, "threshold": 0.2, "topK": 3})


def apart_in(first, second):
    shares = torch.stack([tensors[key][:, None] != tensors[key] for key in ("labels", "partners", "domains")]).double().mean(0)
    scores = unit(first) @ unit(second).T / 0.4
    return ((shares * scores.exp()).sum(1).log() - scores.diagonal()).mean()


case("meow", "formula of MEOW's authors' code, by the share of clusterings", pair, apart_in, {"temperature": 0.4},
     {"clusters0": "labels", "clusters1": "partners", "clusters2": "domains"})

# --- InfoNCE and the engine ---
for tau in taus:
    case("infoNce", "info-nce-pytorch, in-batch", {"query": "x", "positive": "y"}, lambda query, positive: info_nce(query, positive, temperature=tau),
         {"temperature": tau, "inBatchNegatives": True})
    case("infoNce", "info-nce-pytorch, unpaired", {"query": "x", "positive": "y", "negatives": "queue"},
         lambda query, positive, negatives: info_nce(query, positive, negatives, temperature=tau), {"temperature": tau})
    case("contrast", "info-nce-pytorch, unpaired", {"anchors": "x", "positives": "y", "candidates": "queue"},
         lambda anchors, positives, candidates: info_nce(anchors, positives, candidates, temperature=tau, reduction="none"),
         {"temperature": tau, "reduction": "none"})
    case("contrast", "info-nce-pytorch, paired", {"anchors": "x", "positives": "y", "negatives": "hard"},
         lambda anchors, positives, negatives: info_nce(anchors, positives, negatives, temperature=tau, negative_mode="paired"), {"temperature": tau})
    case("contrast", "lightly NTXentLoss with a memory bank", {"anchors": "x", "positives": "y"},
         lambda anchors, positives: banked(NTXentLoss(tau, (7, D)))(anchors, positives), {"temperature": tau}, {"candidates": "queue"})
    case("contrast", "pytorch-metric-learning SupConLoss with references", {"anchors": "x", "candidates": "queue"},
         lambda anchors, candidates: pml.SupConLoss(tau)(anchors, tensors["labels"], ref_emb=candidates, ref_labels=tensors["queueLabels"]),
         {"temperature": tau}, {"labels": "labels", "candidateLabels": "queueLabels"})
    case("socialNce", "info-nce-pytorch, paired, for each positive", {"motions": "x", "positives": "several", "negatives": "hard"},
         lambda motions, positives, negatives: sum(
             info_nce(motions, positives[:, p], negatives, temperature=tau, negative_mode="paired") for p in range(3)) / 3, {"temperature": tau})
raw = {"dot": distances.DotProductSimilarity(normalize_embeddings=False),
       "euclidean": distances.LpDistance(normalize_embeddings=False, p=2, power=2)}
for similarity, distance in raw.items():
    case("contrast", "pytorch-metric-learning SupConLoss with references", {"anchors": "x", "candidates": "queue"},
         lambda anchors, candidates: pml.SupConLoss(0.8, distance=distance)(anchors, tensors["labels"], ref_emb=candidates, ref_labels=tensors["queueLabels"]),
         {"temperature": 0.8, "similarity": similarity}, {"labels": "labels", "candidateLabels": "queueLabels"})
for scale in (1, 4):
    case("contrast", "pytorch-metric-learning NCALoss", {"anchors": "x", "candidates": "queue"},
         lambda anchors, candidates: pml.NCALoss(scale, distance=raw["euclidean"])(anchors, tensors["labels"], ref_emb=candidates, ref_labels=tensors["queueLabels"]),
         {"temperature": 1 / scale, "similarity": "euclidean", "link": "softmaxOfSum"}, {"labels": "labels", "candidateLabels": "queueLabels"})
case("curl", "pytorch-metric-learning NPairsLoss", {"anchors": "x", "positives": "y"},
     lambda anchors, positives: pml.NPairsLoss(distance=raw["dot"])(torch.cat([anchors, positives]), torch.arange(N).repeat(2)))
def tuples(anchors, positives, negatives, kind):
    gaps = (anchors * positives.mean(1)).sum(1, keepdim=True) - torch.einsum("nd,nkd->nk", anchors, negatives.mean(2))
    return ((-gaps).exp().sum(1) + 1).log2().mean() * math.log(2) if kind == "logistic" else (1 - gaps.min(1).values).clamp(min=0).mean()


for kind in ("logistic", "hinge"):
    case("curlBlock", "formula of the code of Nozawa et al. 2020, PAC-Bayesian Contrastive Unsupervised Representation Learning",
         {"anchors": "x", "positives": "several", "negatives": "hard"},
         lambda anchors, positives, negatives: tuples(anchors, positives, negatives[:, None], kind), {"loss": kind})
case("nwjBound", "formula of Tschannen et al. 2020", {"scores": "scores"},
     lambda scores: scores.diagonal().mean() - scores[~torch.eye(N, dtype=torch.bool)].exp().mean() / math.e)
case("infoNceBound", "PyTorch's cross-entropy", {"scores": "scores"}, lambda scores: math.log(N) - F.cross_entropy(scores, torch.arange(N)))
for tau, smoothing, z in ((1, 0, 0), (0.05, 0.1, 0), (0.5, 0.3, 0.01)):
    def classified(embeddings, classes, bias):
        logits = (embeddings @ classes.T + bias) / tau
        counted = tensors["targets"] != -100
        return F.cross_entropy(logits, tensors["targets"], label_smoothing=smoothing) + z * logits.logsumexp(1)[counted].square().mean()
    case("linearCrossEntropy", "PyTorch's cross-entropy", {"embeddings": "x", "classes": "queue", "bias": "bias"}, classified,
         {"temperature": tau, "labelSmoothing": smoothing, "zLoss": z}, {"targets": "targets"})

# --- Two encoders ---
for tau in taus:
    case("clip", "open_clip ClipLoss", pair, lambda first, second: ClipLoss()(unit(first), unit(second), 1 / tau), {"temperature": tau})
    case("clip", "open_clip ClipLoss", pair, lambda first, second: ClipLoss()(first, second, 1 / tau), {"temperature": tau, "similarity": "dot"})
    for bias in (-10, 0.5):
        case("siglip", "open_clip SigLipLoss", pair, lambda first, second: SigLipLoss()(unit(first), unit(second), 1 / tau, bias),
             {"temperature": tau, "bias": bias})

case("generativeContrastiveAlignment", "open_clip SigLipLoss", pair,
     lambda first, second: SigLipLoss()(unit(first), unit(second.detach()), 5, -3), {"temperature": 0.2, "bias": -3})
case("modalityPairwise", "open_clip ClipLoss, of each pair", {**pair, "third": "z"},
     lambda first, second, third: sum(ClipLoss()(unit(a), unit(b), 10) for a, b in ((first, second), (first, third), (second, third))),
     {"temperature": 0.1})
case("clhe", "info-nce-pytorch", {**pair, "bundle0": "z", "bundle1": "near"},
     lambda first, second, bundle0, bundle1: 0.5 * info_nce(first, second, temperature=0.2) + 2 * info_nce(bundle0, bundle1, temperature=0.3),
     {"itemWeight": 0.5, "bundleWeight": 2, "bundleTemperature": 0.3})
case("creamFl", "info-nce-pytorch and PyTorch's cross-entropy", {"embeddings": "x"},
     lambda embeddings: 0.5 * (F.cross_entropy(unit(embeddings) @ unit(tensors["queue"]).T / 0.5, tensors["clusters"])
                               + info_nce(embeddings, tensors["bank"][tensors["clusters"]], tensors["y"][:, None], 0.5, negative_mode="paired")),
     {"similarity": "cosine"}, {"same": "bank", "other": "queue", "previous": "y", "positions": "clusters"})

# --- Text ---


class Given(nn.Module):
    """Takes the place of a model: its embeddings are in the features."""

    max_seq_length = 8

    def __init__(self, key):
        super().__init__()
        self.key = key
        self.tokenizer = NoTokenizer()

    def forward(self, features):
        return {"sentence_embedding": features[self.key]}

    def get_embedding_dimension(self):
        return D


class NoTokenizer(PreTrainedTokenizerBase):
    def __init__(self):
        pass

    def get_vocab(self):
        return {}


def ranking(embeddings, tau, **options):
    loss = st.MultipleNegativesRankingLoss(Given("x"), scale=1 / tau, **options)
    return loss.compute_loss_from_embeddings(embeddings, None)


texts = {"anchors": "x", "positives": "y"}
mined = {**texts, "negatives": "hard"}
ways = {
    (): {},
    ("query_to_query",): {"contrastAnchors": True},
    ("doc_to_query",): {"bothDirections": True},
    ("doc_to_doc",): {"contrastPositives": True},
    ("query_to_query", "doc_to_query", "doc_to_doc"): {"contrastAnchors": True, "bothDirections": True, "contrastPositives": True},
}
for directions, ours in ways.items():
    for inputs in (texts, mined):
        for tau in (0.2,) if directions else taus:
            def ranked(anchors, positives, negatives=None):
                columns = [] if negatives is None else list(negatives.unbind(1))
                return ranking([anchors, positives, *columns], tau, directions=("query_to_doc", *directions))
            case("multipleNegatives", "sentence-transformers MultipleNegativesRankingLoss", inputs, ranked, {"temperature": tau, **ours})
for tau in taus:
    case("multipleNegatives", "sentence-transformers MultipleNegativesRankingLoss", texts,
         lambda anchors, positives: ranking([anchors, positives], tau, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"),
         {"temperature": tau, "bothDirections": True, "softmax": "perDirection"})
case("multipleNegatives", "sentence-transformers MultipleNegativesRankingLoss", texts,
     lambda anchors, positives: ranking([anchors, positives], 0.7, similarity_fct=dot_score), {"temperature": 0.7, "similarity": "dot"})
for theirs, ours in (("in_batch_negatives", "inBatch"), ("hard_negatives", "hardNegatives"), ("all_negatives", "all")):
    for tau, strength in ((0.05, 9), (0.5, 3)):
        case("hardnessWeighted", "sentence-transformers MultipleNegativesRankingLoss", mined,
             lambda anchors, positives, negatives: ranking([anchors, positives, *negatives.unbind(1)], tau, hardness_mode=theirs, hardness_strength=strength),
             {"temperature": tau, "strength": strength, "weighted": ours})


def guided(anchors, positives, negatives=None, **options):
    columns = [(anchors, "guideX"), (positives, "guideY"), *([] if negatives is None else [(negatives, "guideZ")])]
    features = [{"x": embeddings, "guide": tensors[guide]} for embeddings, guide in columns]
    return st.GISTEmbedLoss(Given("x"), Given("guide"), **options)(features, None)


for tau, margin, strategy, both, negatives in ((0.05, 0, "absolute", True, False), (0.5, 0.3, "absolute", True, True), (0.1, 0.2, "relative", True, True),
                                               (0.1, 0.1, "relative", False, True), (0.01, 0, "absolute", False, False)):
    case("gist", "sentence-transformers GISTEmbedLoss", {**texts, **({"negatives": "z"} if negatives else {})},
         lambda **inputs: guided(**inputs, temperature=tau, margin=margin, margin_strategy=strategy, contrast_anchors=both, contrast_positives=both),
         {"temperature": tau, "margin": margin, "marginStrategy": strategy, "contrastAnchors": both, "contrastPositives": both},
         {"guideAnchors": "guideX", "guidePositives": "guideY", **({"guideNegatives": "guideZ"} if negatives else {})})
for dimensions, weights in (([5, 3, 1], [1, 1, 1]), ([5, 2], [1, 0.3])):
    def cut(anchors, positives):
        model = Given("x")
        loss = st.MatryoshkaLoss(model, st.MultipleNegativesRankingLoss(model, scale=20), dimensions, weights)
        return loss([{"x": anchors}, {"x": positives}], None)
    case("matryoshka", "sentence-transformers MatryoshkaLoss", texts, cut, {"dimensions": dimensions, "weights": weights})
for tau in taus:
    case("cosent", "sentence-transformers CoSENTLoss", pair,
         lambda first, second: st.CoSENTLoss(None, scale=1 / tau).compute_loss_from_embeddings([first, second], tensors["grades"]),
         {"temperature": tau}, {"targets": "grades"})



def with_similarity(anchors, positives, negatives, first, second):
    """What the paper's formula leaves out: the other queries' positives and hard negatives are negatives too."""
    columns = torch.cat([positives, negatives.flatten(0, 1)])
    graded = st.CoSENTLoss(None, scale=10).compute_loss_from_embeddings([first, second], tensors["grades"])
    return F.cross_entropy(unit(anchors) @ unit(columns).T / 0.05, torch.arange(N)) + 0.8 * graded


case("conan", "PyTorch's cross-entropy and sentence-transformers CoSENTLoss", {**mined, "first": "z", "second": "near"}, with_similarity,
     {"similarityTemperature": 0.1}, {"targets": "grades"})


def punished(first, second):
    likeness = unit(tensors["guideX"]) @ unit(tensors["guideY"]).T
    scores = unit(first) @ unit(second).T / 0.1
    left_out = (likeness > 0.3) & ~torch.eye(N, dtype=torch.bool)
    assert 0 < left_out.sum() < N * (N - 1)
    return F.cross_entropy(torch.cat([scores.masked_fill(left_out, -torch.inf), unit(first) @ unit(tensors["noise"]).T / 0.1], 1), torch.arange(N))


case("dclr", "PyTorch's cross-entropy", pair, punished, {"temperature": 0.1, "threshold": 0.3},
     {"guideFirst": "guideX", "guideSecond": "guideY", "noise": "noise"})


def hard_only(anchors, positives, share):
    scores = unit(anchors) @ unit(positives).T / 0.3
    own = scores.diagonal()
    others = scores[~torch.eye(N, dtype=torch.bool)].view(N, -1)
    kept = others.topk(math.ceil(share * (N - 1)), 1).values
    return (torch.cat([own[:, None], kept], 1).logsumexp(1) - own).mean()


for share in (0.1, 0.5):
    case("hardContrastive", "formula of Wang and Liu 2021", {"anchors": "x", "positives": "y"},
         lambda anchors, positives: hard_only(anchors, positives, share), {"temperature": 0.3, "share": share})

# --- Labels ---
SupCon = pml.SupConLoss
for tau in taus:
    case("supCon", "pytorch-metric-learning SupConLoss", {"embeddings": "x"}, lambda embeddings: SupCon(tau)(embeddings, tensors["labels"]),
         {"temperature": tau}, {"labels": "labels"})
    # Its mean is over the pairs.
    case("dexml", "pytorch-metric-learning NTXentLoss with references", {"anchors": "x", "labels": "queue"},
         lambda anchors, labels: pml.NTXentLoss(tau, reducer=reducers.SumReducer())(anchors, tensors["labels"], ref_emb=labels, ref_labels=tensors["queueLabels"]),
         {"temperature": tau, "positives": "sum", "reduction": "sum"}, {"anchorClasses": "labels", "labelClasses": "queueLabels"})
case("saFas", "pytorch-metric-learning SupConLoss, classes of label and domain", two,
     lambda view0, view1: SupCon(0.2)(torch.cat([view0, view1]), (tensors["labels"] * 2 + tensors["domains"]).repeat(2)), {"temperature": 0.2},
     {"labels": "labels", "domains": "domains"})
case("sbcl", "pytorch-metric-learning SupConLoss, twice", {"view0": "x"},
     lambda view0: 0.2 / 0.07 * SupCon(0.2)(view0, tensors["subclasses"]) + 0.25 * SupCon(0.2)(view0, tensors["labels"]),
     {"temperature": 0.2}, {"labels": "labels", "subclasses": "subclasses"})


def inside(embeddings):
    scores = (unit(embeddings) @ unit(embeddings).T / 0.3).masked_fill(torch.eye(N, dtype=torch.bool), -torch.inf)
    same = (tensors["labels"][:, None] == tensors["labels"]) & ~torch.eye(N, dtype=torch.bool)
    own = scores.softmax(1).masked_fill(~same, 0).sum(1) / same.sum(1).clamp(min=1)
    return -own[same.any(1)].log().mean()


case("supCon", "formula of Supervised Contrastive Learning, its L_in", {"embeddings": "x"}, inside, {"temperature": 0.3, "sum": "inside"}, {"labels": "labels"})
case("prototypeContrast", "PyTorch's cross-entropy", {"embeddings": "x", "prototypes": "queue"},
     lambda embeddings, prototypes: F.cross_entropy(unit(embeddings) @ unit(prototypes).T / tensors["concentrations"], tensors["clusters"]),
     {}, {"clusters": "clusters", "concentrations": "concentrations"})



def gated(anchors, candidates, gates):
    """The gated vectors are made, one for each pair."""
    z = unit(candidates[None] * gates[:, None])
    scores = torch.einsum("nd,nmd->nm", unit(anchors * gates), z) / 0.1
    one, other = (tensors[key][:, None] == tensors["queueLabels"] for key in ("labels", "partners"))
    losses = ((scores.exp() * ~(one | other)).sum(1, keepdim=True) + scores.exp()).log() - scores
    return losses[other].mean()


case("gatedContrastive", "formula of SimLAP's authors' code", {"anchors": "x", "candidates": "queue", "gates": "gates"}, gated, {},
     {"anchorClasses": "labels", "partners": "partners", "candidateClasses": "queueLabels"})


def unilateral(inlier0, inlier1, outlier0, outlier1, sharpness):
    z = unit(torch.cat([inlier0, inlier1, outlier0, outlier1]))
    inside, total = 2 * N, 2 * N + 2 * 3
    same = torch.zeros(total, total, dtype=torch.bool)
    same[:inside, :inside] = True
    for i in range(3):
        same[inside + i, inside + 3 + i] = same[inside + 3 + i, inside + i] = True
    self = torch.eye(total, dtype=torch.bool)
    same &= ~self
    scores = z @ z.T
    weights = same.to(z)
    if sharpness:
        near = ((scores.detach() / sharpness).exp() * same).sum(1)
        weights[:inside] *= near / near[:inside].sum()
    shares = (scores / 0.5).masked_fill(self, -torch.inf).log_softmax(1).masked_fill(self, 0)
    return -((weights * shares).sum(1) / weights.sum(1)).mean()


rotated = {"inlier0": "x", "inlier1": "near", "outlier0": "frames0", "outlier1": "frames1"}
for sharpness in (None, 0.5, 0.1):
    case("uniClr", "formulas 5 and 7 of UniCon-HA", rotated, lambda **views: unilateral(**views, sharpness=sharpness), {"weightTemperature": sharpness})


def mixed_up(view0, view1, window):
    z, y = unit(torch.cat([view0, view1])), tensors["ages"].repeat(2)
    still = z.detach()
    losses = []
    for i in range(2 * N):
        positives, scores, weights = [], [], []
        for j in range(2 * N):
            if j != i:
                scores.append(z[i] @ z[j] / 0.3)
                weights.append(1 + abs(y[i] - y[j]))
                if y[i] == y[j]:
                    positives.append(scores[-1])
            if y[j] != y[i]:
                share = tensors["shares"][i, j]
                scores.append(z[i] @ (share * still[i] + (1 - share) * still[j]) / 0.3)
                weights.append(1 + (1 - share) * abs(y[i] - y[j]))
            for k in range(2 * N):
                if y[j] < y[i] < y[k] and y[i] - y[j] < window and y[k] - y[i] < window:
                    part = (y[k] - y[i]) / (y[k] - y[j])
                    positives.append(z[i] @ (part * still[j] + (1 - part) * still[k]) / 0.3)
                    scores.append(positives[-1])
                    weights.append(torch.tensor(1.0))
        losses.append((torch.stack(weights) * torch.stack(scores).exp()).sum().log() - torch.stack(positives).mean())
    return torch.stack(losses).mean()


for window in (5, 3):
    case("supReMix", "formula of SupReMix's authors' code", alike, lambda view0, view1: mixed_up(view0, view1, window), {"window": window},
         {"targets": "ages", "shares": "shares"})
case("cse", "PyTorch's cosine_similarity, formula of CSE's authors' code", {"first": "layer", "second": "otherLayer"},
     lambda first, second: (1 - F.cosine_similarity(first[0], second[0], dim=1).mean() + (1 + F.cosine_similarity(first[1], second[1], dim=1).mean()) / 2),
     {"reduction": "sum"}, {"defective": "defective"})

# --- Patches, sorting, sequences ---


def patches(output, input, whole):
    q, k = unit(output), unit(input.detach())
    if whole:
        q, k = q.flatten(0, 1)[None], k.flatten(0, 1)[None]
    own, scores = (q * k).sum(2, keepdim=True), q @ k.transpose(1, 2)
    scores = torch.cat([own, scores.masked_fill(torch.eye(q.size(1), dtype=torch.bool), -10)], 2) / 0.07
    return F.cross_entropy(scores.flatten(0, 1), torch.zeros(q.size(0) * q.size(1), dtype=torch.long))


for negatives in ("image", "batch"):
    case("patchNce", "formula of CUT's authors' code", {"output": "layer", "input": "otherLayer"},
         lambda output, input: patches(output, input, negatives == "batch"), {"negatives": negatives})


def sorted_groups(view0, view1, steepness, most):
    losses = []
    for anchors, others in ((unit(view0), unit(view1)), (unit(view1), unit(view0))):
        own = (anchors * others.detach()).sum(1, keepdim=True)
        apart = (anchors @ anchors.detach().T)[~torch.eye(N, dtype=torch.bool)].view(N, -1)
        ordered = torch.cat([apart.topk(most, 1).values.flip(1), own], 1)
        shares = DiffSortNet("odd_even", most + 1, steepness=steepness)(ordered)[1]
        losses.append(-torch.cat([1 - shares[:, :most, most], shares[:, most:, most]], 1).log().mean())
    return (losses[0] + losses[1]) / 2


for steepness, most in ((1, 5), (10, 3)):
    case("groco", "diffsort DiffSortNet", alike, lambda view0, view1: sorted_groups(view0, view1, steepness, most),
         {"steepness": steepness, "negatives": most})
for size, steepness in ((5, 1), (6, 10)):
    # The weights make a number of the permutation.
    key = "x" if size == 5 else "scores"
    case("softSort", "diffsort DiffSortNet, odd_even, Cauchy", {"values": key},
         lambda values: (DiffSortNet("odd_even", size, steepness=steepness)(values)[1] * torch.arange(size * size).view(size, size).sin()).sum(),
         {"steepness": steepness})


def warped(a, b):
    """The path is the library's, the distances along it are taken anew for their gradient."""
    total, path = fastdtw.dtw(a.detach().numpy(), b.detach().numpy(), dist=2)
    along = torch.stack([(a[i] - b[j]).norm() for i, j in path]).sum()
    assert math.isclose(total, along.item())
    return along


def transported(a, b):
    costs = torch.cdist(a, b)
    even = [torch.full((n,), 1 / n) for n in costs.shape]
    return (ot.bregman.sinkhorn_log(*even, costs, 0.2, numItermax=2000, stopThr=1e-15) * costs).sum()


def stretched(a, b):
    long = F.interpolate(a.T[None], size=b.size(0), mode="linear", align_corners=False)[0].T
    return (long - b).square().sum(1).mean().sqrt()


def speech(context, target, otherContext, otherTarget, scale):
    """wav2vec 2.0's loss in each place, with scores of negatives of the positive's cluster multiplied."""
    drawn, clusters = tensors["drawn"], tensors["labels"]
    factors = torch.where(clusters[drawn] == clusters[:, None], scale, 1.0)

    def loss(contexts, targets):
        logits = Wav2Vec2ForPreTraining.compute_contrastive_logits(targets[None], targets[drawn].transpose(0, 1), contexts, 0.1).T
        return F.cross_entropy(torch.cat([logits[:, :1], logits[:, 1:] * factors], 1), torch.zeros(N, dtype=torch.long))
    return loss(context, target) + 0.5 * loss(context, otherTarget) + 0.25 * loss(otherContext, target)


for scale in (1.0, 0.3):
    # Its cosines are float32.
    case("cccWav2Vec2", "transformers Wav2Vec2ForPreTraining", {"context": "x", "target": "y", "otherContext": "z", "otherTarget": "near"},
         lambda **frames: speech(**frames, scale=scale), {"scale": scale, "weights": [1, 0.5, 0.25]}, {"negatives": "drawn", "clusters": "labels"}, atol=1e-5)
for distance, peer, apart in (("dtw", "fastdtw dtw", warped), ("wasserstein", "POT sinkhorn_log", transported), ("interpolated", "PyTorch's interpolate", stretched)):
    settings = {"distance": distance, **({"regularization": 0.2, "steps": 500} if distance == "wasserstein" else {})}

    def all_pairs(first, second):
        return torch.stack([torch.stack([apart(a, b) for b in unit(second)]) for a in unit(first)])
    case("sequenceDistances", peer, {"first": "frames", "second": "otherFrames"}, all_pairs, settings, atol=1e-8 if distance == "wasserstein" else None)
    case("scav", peer + ", then open_clip's cross-entropies", {"first": "frames", "second": "otherFrames"},
         lambda first, second: (F.cross_entropy(-all_pairs(first, second) / 0.3, torch.arange(3))
                                + F.cross_entropy(-all_pairs(first, second).T / 0.3, torch.arange(3))) / 2,
         {**settings, "temperature": 0.3}, atol=1e-8 if distance == "wasserstein" else None)

write(__file__, tensors, {"cases": cases})
