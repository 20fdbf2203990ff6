"""Datasets: read, made, downloaded, built from raw files; one question a module."""

from sea.data.amazon import build
from sea.data.checks import COLUMNS, DATA, SPLITS, DataError
from sea.data.dataset import Dataset, modality_order
from sea.data.fetch import download
from sea.data.knockout import is_planted, knock_out, knocked_out
from sea.data.official import OFFICIAL, OFFICIAL_INTER, OFFICIAL_WIDTHS
from sea.data.reader import load
from sea.data.synthetic import planted

__all__ = [
    "COLUMNS",
    "DATA",
    "OFFICIAL",
    "OFFICIAL_INTER",
    "OFFICIAL_WIDTHS",
    "SPLITS",
    "DataError",
    "Dataset",
    "build",
    "download",
    "is_planted",
    "knock_out",
    "knocked_out",
    "load",
    "modality_order",
    "planted",
]
