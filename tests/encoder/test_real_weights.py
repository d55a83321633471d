"""The embedded weights, all-MiniLM-L6-v2, on the shipped reviews: the claims of the README on a real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from spacy.tokens import Doc
from transformers import AutoModel, AutoTokenizer

from spacy_distil.encoder.checkpoint import find_folder, load_checkpoint, write_checkpoint
from spacy_distil.encoder.model import DistilBert
from spacy_distil.errors import CheckpointError
from tests.conftest import EMBEDDED
from tests.encoder.reference import FLOAT32, Reference, hidden_states, pack, relative_error

pytestmark = pytest.mark.weights
REVIEWS = Path(__file__).parents[2] / "assets" / "reviews.jsonl"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # published by sentence-transformers


@pytest.fixture(scope="module")
def folder() -> Path:
    return find_folder(EMBEDDED)


@pytest.fixture(scope="module")
def docs(make_doc) -> list[Doc]:
    """Reviews, and two Docs longer than a window."""
    texts = [json.loads(line)["text"] for line in REVIEWS.read_text(encoding="utf8").splitlines()[:24]]
    return [make_doc(text) for text in [*texts, " ".join(texts), "Naïve CAFÉ\u0301 👩‍👩‍👧 中国 " * 60]]


def encode(docs: list[Doc], **options) -> torch.Tensor:
    model = DistilBert(EMBEDDED, sha256=SHA256, **{"window": 128, **options})
    model.initialize()
    return torch.cat([torch.from_numpy(rows) for rows in model.predict(docs)])


@pytest.fixture(scope="module")
def expected(folder: Path, docs) -> torch.Tensor:
    with torch.no_grad():
        tokens, _ = Reference(folder, window=128, overlap=32)(docs)
    return torch.cat([states[-1] for states in tokens])


def test_float32_equals_transformers(docs, expected):
    assert relative_error(encode(docs, precision="float32"), expected) < FLOAT32


def test_bfloat16_stays_within_its_bound(docs, expected):
    """Each token's cosine is above 0.999, the median above 0.9995; each value is within 3 % of the largest."""
    actual = encode(docs, precision="bfloat16")
    cosines = torch.cosine_similarity(actual, expected)[expected.any(dim=1)]
    assert cosines.min() > 0.999
    assert cosines.median() > 0.9995
    assert relative_error(actual, expected) < 0.03


def test_bfloat16_stays_within_its_bound_in_long_windows(docs):
    """Attention of a long sequence goes another way."""
    long = docs[-2:]
    actual, expected = (encode(long, precision=precision, window=512) for precision in ("bfloat16", "float32"))
    cosines = torch.cosine_similarity(actual, expected)[expected.any(dim=1)]
    assert cosines.min() > 0.999
    assert cosines.median() > 0.9995
    assert relative_error(actual, expected) < 0.03


def test_all_layers_folded_into_a_distilbert_change_nothing(docs, expected):
    folded = encode(docs, precision="float32", layers=[0, 1, 2, 3, 4, 5])
    assert relative_error(folded, expected) < FLOAT32


def test_a_student_of_three_layers_has_them(folder: Path):
    student = load_checkpoint(EMBEDDED, layers=[0, 2, 5]).build().eval()
    model = AutoModel.from_pretrained(folder).eval()
    model.encoder.layer = torch.nn.ModuleList(model.encoder.layer[i] for i in (0, 2, 5))
    ids = AutoTokenizer.from_pretrained(folder)("A truly great film.")["input_ids"]
    assert relative_error(student(pack([ids]))[-1].detach(), hidden_states(model, [ids])[-1]) < FLOAT32


def test_what_is_written_back_is_the_original(folder: Path, tmp_path: Path):
    checkpoint = load_checkpoint(EMBEDDED)
    write_checkpoint(tmp_path / "written", checkpoint.build(), checkpoint.tokenizer)
    text = "Naïve CAFÉ\u0301: A truly great film, 中国!"
    outputs = []
    for path in (folder, tmp_path / "written"):
        inputs = AutoTokenizer.from_pretrained(path)(text, return_tensors="pt")
        with torch.no_grad():
            outputs.append(AutoModel.from_pretrained(path).eval()(**inputs))
    # A product rounds by where in memory its weights lie.
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(outputs[0][name], outputs[1][name], rtol=1e-5, atol=1e-6)


def test_a_wrong_digest_is_refused():
    with pytest.raises(CheckpointError, match=SHA256):
        load_checkpoint(EMBEDDED, sha256="0" * 64)


def test_the_tokenizers_own_truncation_at_128_cuts_nothing():
    """Its tokenizer.json says so; the encoder never does."""
    assert len(load_checkpoint(EMBEDDED).tokenizer.encode(["film " * 1000])[0]) == 1000
