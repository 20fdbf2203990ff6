"""One file per model, one class per file; `MODELS` is the only list of them."""

from sea.models.base import Recommender
from sea.models.bpr import BPR
from sea.models.freedom import FREEDOM
from sea.models.freedom_sea import FREEDOMSEA
from sea.models.lattice import LATTICE
from sea.models.lightgcn import LightGCN
from sea.models.micro import MICRO
from sea.models.mmgcn import MMGCN
from sea.models.sea import SEA
from sea.models.vbpr import VBPR
from sea.models.vbpr_sea import VBPRSEA

MODELS: dict[str, type[Recommender]] = {
    "BPR": BPR,
    "LightGCN": LightGCN,
    "VBPR": VBPR,
    "MMGCN": MMGCN,
    "LATTICE": LATTICE,
    "MICRO": MICRO,
    "FREEDOM": FREEDOM,
    "SEA": SEA,
    "VBPR+SEA": VBPRSEA,
    "FREEDOM+SEA": FREEDOMSEA,
}
