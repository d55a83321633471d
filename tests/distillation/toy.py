"""Made-up sentences, and tiny pipelines that read them: sentiment as textcat, topics as textcat_multilabel, names as ner."""

import random
from functools import cache
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Adam, Config, fix_random_seed

from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.pipes import find_distiller
from spacy_distil.distillation.settings import Settings
from spacy_distil.distillation.teacher import Teacher
from spacy_distil.distillation.update import DistillationUpdate

NAMES = {
    "PERSON": ["Alma", "Bruno Stone", "Carla Rivers", "Dario", "Elif Novak", "Farid"],
    "PLACE": ["Lyra", "Port Amber", "Kestrel", "Venn Hill"],
}
TOPICS = {"FOOD": ["soup", "bread", "coffee"], "STAFF": ["waiter", "cook"], "ROOM": ["bed", "window", "lamp"]}
SENTIMENTS = {
    "GOOD": ["lovely", "warm", "perfect"],
    "BAD": ["awful", "cold", "broken"],
    "SOSO": ["usual", "plain", "old"],
}
HEADS = ("textcat", "textcat_multilabel", "ner")


def sentence(rng: random.Random, vocab: Vocab, annotate: str) -> Doc:
    """One sentence. `annotate` is "sentiment", "topics" or nothing: spaCy's textcat can't stand both in one document.
    Either comes with the names."""
    words: list[str] = []
    spans = []

    def add_name(label: str) -> None:
        name = rng.choice(NAMES[label]).split()
        spans.append((len(words), len(words) + len(name), label))
        words.extend(name)

    sentiment = rng.choice(list(SENTIMENTS))
    topics = rng.sample(list(TOPICS), rng.choice([1, 2]))
    add_name("PERSON")
    words.append(rng.choice(["found", "called", "saw"]))
    for topic in topics:
        words += ["the", rng.choice(SENTIMENTS[sentiment]), rng.choice(TOPICS[topic]), "and"]
    words[-1] = "in"
    add_name("PLACE")
    words.append(".")
    doc = Doc(vocab, words=words)
    if annotate:
        doc.ents = [Span(doc, start, end, label) for start, end, label in spans]
    if annotate == "sentiment":
        doc.cats = {label: float(label == sentiment) for label in SENTIMENTS}
    if annotate == "topics":
        doc.cats = {label: float(label in topics) for label in TOPICS}
    return doc


def sentences(n: int, *, seed: int, annotate: str = "", vocab: Vocab | None = None) -> list[Doc]:
    rng = random.Random(seed)
    vocab = vocab or spacy.blank("en").vocab
    return [sentence(rng, vocab, annotate) for _ in range(n)]


def example(doc: Doc, vocab: Vocab) -> Example:
    """The student's view of a sentence: the bare tokens, and what is known of them."""
    return Example(Doc(vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc]), doc)


def examples(n: int, *, seed: int, annotate: str = "", vocab: Vocab) -> list[Example]:
    return [example(doc, vocab) for doc in sentences(n, seed=seed, annotate=annotate, vocab=vocab)]


def write_corpus(path: Path, docs: list[Doc]) -> Path:
    DocBin(docs=docs).to_disk(path)
    return path


def config(*, width: int = 24, shared: bool = True, heads: tuple[str, ...] = HEADS) -> str:
    """A pipeline's config, for `spacy train`. With `shared`, all heads listen to one tok2vec."""
    encoder = f"""
@architectures = "spacy.HashEmbedCNN.v2"
pretrained_vectors = null
width = {width}
depth = 1
embed_size = 200
window_size = 1
maxout_pieces = 2
subword_features = false
"""
    listener = f"""
@architectures = "spacy.Tok2VecListener.v1"
width = {width}
upstream = "tok2vec"
"""
    models = {
        "ner": """
@architectures = "spacy.TransitionBasedParser.v2"
state_type = "ner"
extra_state_tokens = false
hidden_width = 16
maxout_pieces = 2
use_upper = true
""",
        "textcat": """
@architectures = "spacy.TextCatReduce.v1"
exclusive_classes = true
use_reduce_first = false
use_reduce_last = false
use_reduce_max = false
use_reduce_mean = true
""",
        "textcat_multilabel": """
@architectures = "spacy.TextCatBOW.v3"
exclusive_classes = false
ngram_size = 1
no_output_layer = false
length = 256
""",
    }
    pipeline = (["tok2vec"] if shared else []) + list(heads)
    blocks = [
        "[paths]\ntrain = null\ndev = null\nteacher = null\n",
        f'[nlp]\nlang = "en"\npipeline = {pipeline}\n'.replace("'", '"'),
        "[components]\n",
    ]
    if shared:
        blocks.append(f'[components.tok2vec]\nfactory = "tok2vec"\n[components.tok2vec.model]{encoder}')
    for head in heads:
        blocks.append(f'[components.{head}]\nfactory = "{head}"\n[components.{head}.model]{models[head]}')
        if head != "textcat_multilabel":  # a bag of words
            blocks.append(f"[components.{head}.model.tok2vec]{listener if shared else encoder}")
    blocks.append(
        """
[corpora]
[corpora.train]
@readers = "spacy.Corpus.v1"
path = ${paths.train}
[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${paths.dev}
[training]
seed = 1
gpu_allocator = null
dropout = 0.1
max_steps = 60
eval_frequency = 60
[training.batcher]
@batchers = "spacy.batch_by_sequence.v1"
size = 16
[training.optimizer]
@optimizers = "Adam.v1"
learn_rate = 0.02
"""
    )
    return "\n".join(blocks)


def build(**settings) -> Language:
    """An initialised pipeline, untrained."""
    fix_random_seed(0)
    nlp = spacy.util.load_model_from_config(Config().from_str(config(**settings), interpolate=False), auto_fill=True)
    labels = {"textcat": list(SENTIMENTS), "textcat_multilabel": list(TOPICS)}
    nlp.config["initialize"]["components"] = {
        name: {"labels": labels[name]} for name in labels if name in nlp.pipe_names
    }
    nlp.initialize(lambda: examples(20, seed=0, annotate="sentiment", vocab=nlp.vocab), sgd=Adam(0.02))
    return nlp


@cache
def train_teacher() -> Language:
    """A pipeline that is nearly always right, trained once a test run."""
    nlp = build(width=32)
    for step in range(50):
        for annotate, other in (("sentiment", "textcat_multilabel"), ("topics", "textcat")):
            batch = examples(16, seed=step, annotate=annotate, vocab=nlp.vocab)
            nlp.update(batch, exclude=[other], drop=0.1)
    return nlp


def settings(**fields) -> Settings:
    """A `[distillation]` block."""
    return Settings.from_block({"teacher": "a teacher in memory", **fields})


def attached(
    student: Language, *teachers: Language, components: tuple[str, ...] = HEADS, **fields
) -> DistillationUpdate:
    """An update that learns from teachers in memory."""
    taught = {name: list(range(len(teachers))) for name in components}
    return DistillationUpdate(student, [Teacher(nlp, components) for nlp in teachers], taught, settings(**fields))


def lesson(teacher: Language, name: str, docs: list[Doc], premises=None) -> Lesson:
    """What a component of the teacher says of the student's documents."""
    pipe = teacher.get_pipe(name)
    return Lesson(pipe, Teacher(teacher, [name]).hear(docs).ask(name, find_distiller(pipe).ask, premises))


def agreement(student: Language, teacher: Language) -> dict[str, float]:
    """Share of unseen sentences on which two pipelines say the same, by component."""
    docs = sentences(60, seed=999)
    pairs = [(student(example(d, student.vocab).x), teacher(example(d, teacher.vocab).x)) for d in docs]

    def names(doc: Doc):
        return [(ent.start, ent.end, ent.label_) for ent in doc.ents]

    def sentiment(doc: Doc):
        return max(SENTIMENTS, key=lambda label: doc.cats.get(label, 0))

    def topics(doc: Doc):
        return [label for label in TOPICS if doc.cats.get(label, 0) > 0.5]

    say = {"ner": names, "textcat": sentiment, "textcat_multilabel": topics}
    return {name: sum(say[name](a) == say[name](b) for a, b in pairs) / len(pairs) for name in HEADS}
