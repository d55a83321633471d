"""Gold data that spaCy's Docs have no place for, as extensions on the reference Docs of a corpus.

`doc._.questions`: a list of `{"id": str, "question": str, "answers": [{"text": str, "start": int}, …]}`, without answers where
the text has none. `doc._.summaries`: a list of reference summaries. `doc._.salient`: the indices of the sentences that belong
to an extract. `doc._.translations`: a list of reference translations of the whole Doc. None where nothing is given.

They are plain data: `DocBin(store_user_data=True)` keeps them, and `spacy.Corpus.v1` gives them back.
"""

from spacy.tokens import Doc

EXTENSIONS = ("questions", "summaries", "salient", "translations")


def register_references() -> None:
    for name in EXTENSIONS:
        if not Doc.has_extension(name):
            Doc.set_extension(name, default=None)
