"""The paper's three datasets as published: checksums, addresses, and how a folder differs from them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Official:
    """A published file.

    Attributes:
        sha256, size: of the file, in bytes.
        crlf: sha256 of the copies that went through Windows line ends; "" for files without lines.
        drive: its id on Google Drive; "" if unknown.
    """

    sha256: str
    size: int
    crlf: str = ""
    drive: str = ""


OFFICIAL = {
    "baby": {
        "baby.inter": Official(
            "e0abb033ea5cc538bb2becd8c3dc50b619f28f7974ba61f5ed11ce27cf405940",
            4362239,
            "9ef5de9a05949d973928cca113aacba12067ff8f104e310ef28ea42db00c17b1",
            "1i2IB2bdxu_jMSxr2IvZ04MG54ySgI2JN",
        ),
        "image_feat.npy": Official(
            "36c3be592b98506189a7d5de71b21577cf626f0293b539d861534673b3e9fd70",
            231014528,
            drive="103Pxo73naIwmKI6CR71d3t7A5k-lpk9c",
        ),
        "text_feat.npy": Official(
            "6667f2ad655c9ecc97cb3383f58988864ef51ec0b39c158b15986c66769f2dc4",
            10828928,
            drive="1EP-Ro9Lq-RQV_Urrh8Xpa-mvr635tytj",
        ),
    },
    "sports": {
        "sports.inter": Official(
            "b8a43979c7984a01a8ab9713ea29a3cf13a65b1784dbadc2162fa932daf1c6a0",
            8278383,
            "2ee5b37ea88672ef94660db3e85f37cef0efa57536aa6e1f4e1b2986e63d53bb",
        ),
        "image_feat.npy": Official("222f924a0694b6c7e2bc26ea4bc2ef4ec89f7045aa5105ef463af8455c7a7695", 601522304),
        "text_feat.npy": Official("27d6087f0d8644b8245c60052425530c6446dffe61024b8126db0009ad94de84", 28196480),
    },
    "clothing": {
        "clothing.inter": Official(
            "1d142e4d14079cc509ac2003978eb945f7759d8875d003345cbc863dc303235a",
            7840508,
            "f9fe8f98a7b7ebc04fa151803bbc37c6e184b30f2d56d54c491695cf990e869c",
        ),
        "image_feat.npy": Official("050ea2d0d05bdd441053cc4d9ac38fd570c9611cc49357f442c1c7b8c9943fbc", 754745472),
        "text_feat.npy": Official("17d9e036514283fb0a0dda71789fe56d0c128b60d8f350e7b7ab83ac4c5960dd", 35378816),
    },
}
"""The files of the paper's datasets, by dataset and name."""

OFFICIAL_INTER = {name: files[f"{name}.inter"].sha256 for name, files in OFFICIAL.items()}
"""sha256 of the paper's interaction files."""

OFFICIAL_WIDTHS = {"image": 4096, "text": 384}

DRIVE = "https://drive.google.com/uc?id="
DRIVE_FOLDERS = {"sports": "13cBy1EA_saTUuXxVllKgtfci2A09jyaG"}
"""Folders on Google Drive of the sets whose files' own ids are unknown."""


def difference(inter: Path, features: dict[str, np.ndarray]) -> str:
    """How a folder named like one of the paper's datasets differs from it; "" if it does not, or has another name."""
    if inter.stem not in OFFICIAL_INTER:
        return ""
    differences = []
    widths = {m: x.shape[1] for m, x in features.items()}
    if widths != OFFICIAL_WIDTHS:
        columns = ", ".join(f"{m} {width}" for m, width in sorted(widths.items()))
        differences.append(f"features are stand-ins ({columns} columns), not the official ones")
    if hashlib.sha256(inter.read_bytes().replace(b"\r\n", b"\n")).hexdigest() != OFFICIAL_INTER[inter.stem]:
        differences.append("the split is not the published one")
    return "; ".join(differences) and f"{inter.stem}: {'; '.join(differences)}"
