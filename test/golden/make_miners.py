"""What PyTorch Metric Learning's deterministic miners give, in float64, with and without a reference set."""
import torch
from pytorch_metric_learning import miners
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from golden import write

torch.manual_seed(3)
embeddings = torch.randn(13, 5, dtype=torch.float64)
labels = torch.randint(0, 4, (13,))
reference = torch.randn(9, 5, dtype=torch.float64)
reference_labels = torch.randint(0, 4, (9,))
tensors = {
    "embeddings": embeddings,
    "labels": labels,
    "reference": reference,
    "reference_labels": reference_labels,
}
plain = LpDistance(normalize_embeddings=False, power=2)
cases = {
    "batch_hard": miners.BatchHardMiner(),
    "batch_hard_squared": miners.BatchHardMiner(distance=plain),
    "easy_easy": miners.BatchEasyHardMiner("easy", "easy"),
    "easy_hard": miners.BatchEasyHardMiner("easy", "hard"),
    "easy_semihard": miners.BatchEasyHardMiner("easy", "semihard"),
    "semihard_hard": miners.BatchEasyHardMiner("semihard", "hard"),
    "hard_all": miners.BatchEasyHardMiner("hard", "all"),
    "all_easy": miners.BatchEasyHardMiner("all", "easy"),
    "ranges": miners.BatchEasyHardMiner("hard", "hard", [0.4, 1.5], [0.6, 1.6]),
    "angular": miners.AngularMiner(angle=30),
    "multi_similarity": miners.MultiSimilarityMiner(epsilon=0.1),
    "multi_similarity_euclidean": miners.MultiSimilarityMiner(epsilon=-0.05, distance=LpDistance()),
    "pair_margin": miners.PairMarginMiner(pos_margin=0.9, neg_margin=1.2),
    "pair_margin_cosine": miners.PairMarginMiner(pos_margin=0.5, neg_margin=0.1, distance=CosineSimilarity()),
    "triplet_all": miners.TripletMarginMiner(margin=0.3, type_of_triplets="all"),
    "triplet_hard": miners.TripletMarginMiner(margin=0.3, type_of_triplets="hard"),
    "triplet_semihard": miners.TripletMarginMiner(margin=0.3, type_of_triplets="semihard"),
    "triplet_easy": miners.TripletMarginMiner(margin=0.3, type_of_triplets="easy"),
}
for name, miner in cases.items():
    for kind, others in (("own", ()), ("reference", (reference, reference_labels))):
        for place, rows in enumerate(miner(embeddings, labels, *others)):
            tensors[f"{name}.{kind}.{place}"] = rows.to(torch.int16)

triplets = cases["triplet_semihard"](embeddings, labels)
pairs = cases["multi_similarity"](embeddings, labels)
for place, rows in enumerate(lmu.convert_to_triplets(pairs, labels)):
    tensors[f"pairs_to_triplets.{place}"] = rows.to(torch.int16)
tensors["weights"] = lmu.convert_to_weights(triplets, labels, torch.float64)
tensors["weights_reference"] = lmu.convert_to_weights(pairs, labels, torch.float64, using_ref=True)

write(__file__, tensors, {"cases": list(cases)})
