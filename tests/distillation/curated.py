"""spacy-curated-transformers' component, with the weights of a BERT in Hugging Face's format."""

from pathlib import Path

import pytest
from spacy.language import Language

from tests.conftest import VOCABULARY

LOADERS = {
    "encoder_loader": "spacy-curated-transformers.HFTransformerEncoderLoader.v1",
    "piecer_loader": "spacy-curated-transformers.HFPieceEncoderLoader.v1",
}


def add_curated(nlp: Language, folder: Path, name: str = "curated_transformer") -> None:
    """Add the component, which has its weights once the pipeline is initialised."""
    pytest.importorskip("spacy_curated_transformers")
    nlp.add_pipe(
        "curated_transformer",
        name=name,
        config={
            "all_layer_outputs": False,
            "model": {
                "@architectures": "spacy-curated-transformers.BertTransformer.v1",
                "vocab_size": len(VOCABULARY),
                "hidden_width": 32,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "intermediate_width": 48,
                "max_position_embeddings": 64,
                "model_max_length": 64,
                "piece_encoder": {"@architectures": "spacy-curated-transformers.BertWordpieceEncoder.v1"},
                "with_spans": {
                    "@architectures": "spacy-curated-transformers.WithStridedSpans.v1",
                    "window": 48,
                    "stride": 40,
                },
            },
        },
    )
    nlp.config["initialize"]["components"][name] = {
        argument: {"@model_loaders": loader, "name": str(folder)} for argument, loader in LOADERS.items()
    }
