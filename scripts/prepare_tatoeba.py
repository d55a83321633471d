"""Convert Tatoeba's pairs of English and German sentences to `train.spacy`, `dev.spacy` and `test.spacy`.

The split is fixed: by the SHA-256 of the English sentence, so that no sentence is in two parts, however often it is there. Of
all pairs, 50,000 are taken: those in `deu.50k.txt`, a random sample of them in their order; where that is missing, those of
`deu-eng.zip` whose own SHA-256 is the smallest, which is another sample of the same pairs.
"""

import hashlib
import tempfile
import zipfile
from pathlib import Path

import spacy
import typer
from spacy.tokens import Doc, DocBin
from wasabi import msg

from spacy_distil.corpora import parallel

SAMPLE, ALL = "deu.50k.txt", "deu-eng.zip"
N_PAIRS = 50_000
SHARES = {"test": 0.04, "dev": 0.02}


def prepare_tatoeba(assets: Path, output: Path) -> None:
    """ASSETS: the folder of `deu.50k.txt` or `deu-eng.zip`. OUTPUT: the folder of the three files."""
    parts: dict[str, list[Doc]] = {"train": [], "dev": [], "test": []}
    with tempfile.TemporaryDirectory() as folder:
        pairs = assets / SAMPLE
        if not pairs.exists():
            pairs = Path(folder) / "pairs.txt"
            pairs.write_text("\n".join(sample(assets / ALL)), encoding="utf8")
        for doc in parallel.read(pairs, spacy.blank("en")):
            parts[find_part(doc.text)].append(doc)
    output.mkdir(parents=True, exist_ok=True)
    for part, docs in parts.items():
        DocBin(docs=docs, store_user_data=True).to_disk(output / f"{part}.spacy")
        n_pairs = sum(len(doc._.translations) for doc in docs)
        msg.good(f"{output / f'{part}.spacy'}: {len(docs):,} sentences, {n_pairs:,} pairs")


def sample(archive: Path) -> list[str]:
    """The lines of the pairs, in the file's order."""
    with zipfile.ZipFile(archive) as file:
        lines = file.read("deu.txt").decode("utf8").splitlines()
    chosen = sorted(sorted(range(len(lines)), key=lambda i: digest(lines[i]))[:N_PAIRS])
    return [lines[i] for i in chosen]


def find_part(text: str) -> str:
    position = int(digest(text)[:8], 16) / 2**32
    if position < SHARES["test"]:
        return "test"
    return "dev" if position < SHARES["test"] + SHARES["dev"] else "train"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf8")).hexdigest()


if __name__ == "__main__":
    typer.run(prepare_tatoeba)
