"""One file per model, one class per file; `MODELS` is the only list of them."""

from sea.models.base import Recommender
from sea.models.bpr import BPR
from sea.models.lightgcn import LightGCN
from sea.models.sea import SEA

MODELS: dict[str, type[Recommender]] = {"BPR": BPR, "LightGCN": LightGCN, "SEA": SEA}
