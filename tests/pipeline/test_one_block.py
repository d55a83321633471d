"""A config that trains with spacy-transformers' `transformer` trains with `distilbert` by changing that one block."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config_from_str
from thinc.api import Config

from tests.pipeline.conftest import TEXTS, examples

# As `spacy init config --gpu --pipeline tagger,ner` writes it, but for the few steps.
CONFIG = """
[paths]
train = null

[system]
gpu_allocator = "pytorch"
seed = 0

[nlp]
lang = "en"
pipeline = ["transformer","tagger","ner"]
batch_size = 128

[components]

{transformer}

[components.tagger]
factory = "tagger"

[components.tagger.model]
@architectures = "spacy.Tagger.v2"
nO = null

[components.tagger.model.tok2vec]
@architectures = "spacy-transformers.TransformerListener.v1"
grad_factor = 1.0

[components.tagger.model.tok2vec.pooling]
@layers = "reduce_mean.v1"

[components.ner]
factory = "ner"

[components.ner.model]
@architectures = "spacy.TransitionBasedParser.v2"
state_type = "ner"
extra_state_tokens = false
hidden_width = 64
maxout_pieces = 2
use_upper = false
nO = null

[components.ner.model.tok2vec]
@architectures = "spacy-transformers.TransformerListener.v1"
grad_factor = 1.0

[components.ner.model.tok2vec.pooling]
@layers = "reduce_mean.v1"

[corpora]

[corpora.train]
@readers = "spacy.Corpus.v1"
path = ${{paths.train}}
max_length = 0

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${{paths.train}}
max_length = 0

[training]
accumulate_gradient = 3
dev_corpus = "corpora.dev"
train_corpus = "corpora.train"
max_steps = 60
eval_frequency = 20
seed = ${{system.seed}}
gpu_allocator = ${{system.gpu_allocator}}
dropout = 0.1
patience = 0
max_epochs = 0
frozen_components = []
annotating_components = []
before_to_disk = null
before_update = null

[training.logger]
@loggers = "spacy.ConsoleLogger.v1"

[training.score_weights]
tag_acc = 0.5
ents_f = 0.5

[training.optimizer]
@optimizers = "Adam.v1"

[training.optimizer.learn_rate]
@schedules = "warmup_linear.v1"
warmup_steps = 5
total_steps = 60
initial_rate = 5e-3

[training.batcher]
@batchers = "spacy.batch_by_padded.v1"
discard_oversize = true
size = 2000
buffer = 256

[initialize]
vectors = null
init_tok2vec = null
lookups = null
before_init = null
after_init = null
"""

TRANSFORMER = """
[components.transformer]
factory = "transformer"

[components.transformer.model]
@architectures = "spacy-transformers.TransformerModel.v3"
name = "{name}"
tokenizer_config = {{"use_fast": true}}

[components.transformer.model.get_spans]
@span_getters = "spacy-transformers.strided_spans.v1"
window = 128
stride = 96
"""

DISTILBERT = """
[components.transformer]
factory = "distilbert"

[components.transformer.model]
@architectures = "spacy-distil.DistilBert.v1"
name = "{name}"
"""


@pytest.mark.parametrize("block", [TRANSFORMER, DISTILBERT], ids=["transformer", "distilbert"])
def test_the_same_config_trains(block: str, distilbert_folder: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    DocBin(docs=[example.reference for example in examples(nlp)]).to_disk(tmp_path / "train.spacy")
    text = CONFIG.format(transformer=block.format(name=distilbert_folder))
    config: Config = load_config_from_str(text, overrides={"paths.train": str(tmp_path / "train.spacy")})
    student = init_nlp(config)
    (tmp_path / "trained").mkdir()
    _, path = train(student, tmp_path / "trained", stdout=io.StringIO(), stderr=io.StringIO())
    assert path is not None
    loaded = spacy.load(path)
    assert [token.tag_ for token in loaded(TEXTS[0])] == ["UPPER", "LOWER", "LOWER", "LOWER", "LOWER"]
    scores = loaded.evaluate(examples(loaded))
    assert scores["tag_acc"] > 0.9
    assert scores["ents_f"] > 0.9
