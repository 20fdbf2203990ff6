"""One file per model, one class per file; `MODELS` is the only list of them.

Eighteen are the paper's, `TRAINED`; those of `SIMPLE` are not in it: they are what a new model is asked to beat first.
"""

from sea.models.base import Recommender
from sea.models.bm3 import BM3
from sea.models.bpr import BPR
from sea.models.content_knn import ContentKNN
from sea.models.dualgnn import DualGNN
from sea.models.ease import EASE
from sea.models.freedom import FREEDOM
from sea.models.freedom_sea import FREEDOMSEA
from sea.models.item_knn import ItemKNN
from sea.models.lattice import LATTICE
from sea.models.layergcn import LayerGCN
from sea.models.lgmrec import LGMRec
from sea.models.lightgcn import LightGCN
from sea.models.mgcn import MGCN
from sea.models.micro import MICRO
from sea.models.mmgcn import MMGCN
from sea.models.mmssl import MMSSL
from sea.models.pamd import PAMD
from sea.models.popular import Popular
from sea.models.sea import SEA
from sea.models.slmrec import SLMRec
from sea.models.vbpr import VBPR
from sea.models.vbpr_sea import VBPRSEA

MODELS: dict[str, type[Recommender]] = {
    "BPR": BPR,
    "LightGCN": LightGCN,
    "LayerGCN": LayerGCN,
    "VBPR": VBPR,
    "MMGCN": MMGCN,
    "DualGNN": DualGNN,
    "LATTICE": LATTICE,
    "SLMRec": SLMRec,
    "MICRO": MICRO,
    "PAMD": PAMD,
    "BM3": BM3,
    "MMSSL": MMSSL,
    "FREEDOM": FREEDOM,
    "MGCN": MGCN,
    "LGMRec": LGMRec,
    "SEA": SEA,
    "VBPR+SEA": VBPRSEA,
    "FREEDOM+SEA": FREEDOMSEA,
    "Popular": Popular,
    "ItemKNN": ItemKNN,
    "EASE": EASE,
    "ContentKNN": ContentKNN,
}
SIMPLE = ("Popular", "ItemKNN", "EASE", "ContentKNN")
"""Models that are not in the paper, and have no parameters: each is a `ClosedForm`."""
TRAINED = tuple(name for name in MODELS if name not in SIMPLE)
"""The paper's models, trained with gradients; those that are meant where no model is named."""
READERS = tuple(name for name in MODELS if name not in ("BPR", "LightGCN", "LayerGCN", "Popular", "ItemKNN", "EASE"))
"""Models that read the items' features; the others read interactions alone."""
