"""All that a pipeline of `python -m spacy project run all` has to say of a text: sentiment, aspects, entities, a summary, a
translation, and the answer to a question."""

import spacy
import typer
from wasabi import msg

TEXT = (
    "We stayed at the Hotel Marlow in Bruges for two nights. The staff were kind, and breakfast was worth getting up for. "
    "But €180 for a room above a night club is a joke."
)
SENTIMENTS = ("negative", "neutral", "positive")


def demo(pipeline: str = "training/pipeline", text: str = TEXT, question: str = "How much did the room cost?") -> None:
    """PIPELINE: folder or name of a package."""
    nlp = spacy.load(pipeline)
    doc = nlp(text)  # one pass of the shared encoder
    (answer,) = doc._.ask(question)
    aspects = {label: score for label, score in doc.cats.items() if score > 0.3 and label not in SENTIMENTS}
    print(f"\n{text}\n")
    rows = [
        ("Sentiment", f"{doc.sentiment:+.2f}"),
        ("Aspects", ", ".join(f"{label} {score:.2f}" for label, score in aspects.items())),
        ("Entities", ", ".join(f"{ent.text} ({ent.label_})" for ent in doc.ents)),
        ("Summary", " ".join(sentence.text for sentence in doc._.summary)),
        (question, f"{answer.text or 'The text does not say.'} ({answer.score:.2f})"),
        ("German", doc._.translation),
    ]
    msg.table(rows, widths=(28, 90))


if __name__ == "__main__":
    typer.run(demo)
