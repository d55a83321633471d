"""`project.yml`, its configs and its scripts. Nothing here trains."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import spacy
import srsly
from spacy.tokens import DocBin
from spacy.util import load_config, load_model_from_config
from weasel.util import get_checksum, load_project_config

ROOT = Path(__file__).parents[2]
MADE = ("training/", "corpus/", "packages/")
SPLITS = ("train", "dev", "test")
PUBLIC = ("banking77", "ewt", "wnut17", "goemotions", "scitldr")
CONFIGS = ("reviews", "questions", "translation", "squad", "tatoeba", *PUBLIC)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return load_project_config(ROOT)


@pytest.fixture(scope="module")
def reviews() -> list[dict[str, Any]]:
    return list(srsly.read_jsonl(ROOT / "assets" / "reviews.jsonl"))


def import_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# project.yml


def test_workflows_consist_of_commands(project: dict[str, Any]) -> None:
    commands = [command["name"] for command in project["commands"]]
    assert len(set(commands)) == len(commands)
    assert set(commands) == {name for steps in project["workflows"].values() for name in steps}
    assert all(command["help"] for command in project["commands"])


def test_every_dependency_is_shipped_or_made_before(project: dict[str, Any]) -> None:
    commands = {command["name"]: command for command in project["commands"]}
    for steps in project["workflows"].values():
        made: set[str] = set()
        for name in steps:
            for path in commands[name]["deps"]:
                assert path in made or (not path.startswith(MADE) and (ROOT / path).exists()), (name, path)
            made.update(commands[name]["outputs"])


def test_every_file_that_a_script_names_exists_or_is_made(project: dict[str, Any]) -> None:
    made = {path for command in project["commands"] for path in command["outputs"]}
    for command in project["commands"]:
        used = {part for line in command["script"] for part in shlex.split(line)}
        used = {part.partition("=")[2] if re.match(r"\w+=", part) else part for part in used}
        for path in used:
            if path.startswith(("scripts/", "configs/")):
                assert (ROOT / path).is_file()
                assert path in command["deps"]
            if path.startswith(MADE) and Path(path).suffix:
                assert path in made
                assert path in command["deps"] + command["outputs"]


def test_every_command_has_outputs_so_that_it_is_skipped_when_done(project: dict[str, Any]) -> None:
    assert all(command["outputs"] for command in project["commands"])


def test_assets_have_checksums_that_shipped_files_match(project: dict[str, Any]) -> None:
    for asset in project["assets"]:
        if "checksum" not in asset:  # a file that is there is taken as it is
            assert asset["url"]
            continue
        assert re.fullmatch("[0-9a-f]{32}", asset["checksum"])
        assert "url" in asset or get_checksum(ROOT / asset["dest"]) == asset["checksum"]


def test_students_with_and_without_the_teacher_train_for_as_many_steps_from_the_same_seeds(
    project: dict[str, Any],
) -> None:
    scripts = {command["name"]: command["script"] for command in project["commands"]}
    pairs = [(f"distil-student{name}", f"train-student-alone{name}") for name in ("", "-squad")]
    pairs += [(f"distil-students-{name}", f"train-students-alone-{name}") for name in PUBLIC]
    for pair in pairs:
        taught, alone = (shlex.split(line) for name in pair for line in scripts[name])
        for parts in (taught, alone):
            assert parts[:3] == ["python", "-m", "spacy"] or parts[:2] == ["python", "scripts/train_seeds.py"]
            assert any(re.fullmatch(r"training/(\w+/)?(student|distilled)\.cfg", part) for part in parts)
        seeds = [[part for part in parts if re.fullmatch(r"\d(,\d)*", part)] for parts in (taught, alone)]
        assert seeds[0][-1] == seeds[1][-1]
        assert taught[taught.index("--training.max_steps") + 1] == alone[alone.index("--training.max_steps") + 1]


# Configs


@pytest.mark.parametrize("name", CONFIGS)
def test_config_fills_without_a_change_and_builds_the_pipeline(name: str) -> None:
    config = load_config(ROOT / "configs" / f"{name}.cfg")
    nlp = load_model_from_config(config, auto_fill=True)
    filled = load_model_from_config(nlp.config, auto_fill=False, validate=True)
    assert filled.pipe_names == config["nlp"]["pipeline"]
    training = nlp.config.interpolate()["training"]
    assert training["optimizer"]["learn_rate"]["total_steps"] == config["training"]["max_steps"]


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_demand_the_digest_of_the_default_teacher(name: str, project: dict[str, Any]) -> None:
    encoder = import_script("configure").find_encoder(load_config(ROOT / "configs" / f"{name}.cfg")["components"])
    assert encoder["name"] == project["vars"]["teacher"]
    assert encoder["sha256"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.mark.parametrize("name", PUBLIC)
def test_the_student_with_a_teacher_has_the_config_of_the_one_without_but_starts_from_the_teacher(
    name: str, bert_folder: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{role}.cfg" for role in ("teacher", "student", "distilled")]
    block = ROOT / "configs" / "distillation.cfg"
    import_script("configure").configure(
        ROOT / "configs" / f"{name}.cfg",
        *paths[:2],
        str(bert_folder),
        distilled=paths[2],
        block=block,
        trained="teacher",
    )
    _, student, distilled = (load_config(path) for path in paths)
    assert distilled.pop("distillation")["teacher"] == "teacher"
    assert distilled["components"]["distilbert"]["model"].pop("name") == "teacher"
    student["components"]["distilbert"]["model"].pop("name")
    assert distilled == student


@pytest.mark.weights
def test_what_is_pruned_starts_from_the_checkpoint(project: dict[str, Any], tmp_path: Path) -> None:
    paths = [tmp_path / f"{role}.cfg" for role in ("teacher", "student", "pruned")]
    import_script("configure").configure(
        ROOT / "configs" / "banking77.cfg",
        *paths[:2],
        project["vars"]["teacher"],
        layers="all",
        distilled=paths[2],
        block=ROOT / "configs" / "pruning.cfg",
        trained="teacher",
        inherit=False,
    )
    student, pruned = (load_config(path) for path in paths[1:])
    assert pruned["components"] == student["components"]
    assert pruned["distillation"]["teacher"] == "teacher"
    assert pruned["pruning"]["end"] < project["vars"]["steps_prune_banking77"]


@pytest.mark.weights
def test_student_of_the_default_teacher_has_half_of_its_layers(project: dict[str, Any], tmp_path: Path) -> None:
    configure = import_script("configure").configure
    paths = tmp_path / "new" / "teacher.cfg", tmp_path / "new" / "student.cfg"
    configure(ROOT / "configs" / "reviews.cfg", *paths, checkpoint=project["vars"]["teacher"])
    encoders = [load_config(path)["components"]["distilbert"]["model"] for path in paths]
    assert [encoder["layers"] for encoder in encoders] == [None, [0, 2, 4]]
    assert [bool(encoder["sha256"]) for encoder in encoders] == [True, True]


def test_another_teacher_needs_no_digest(bert_folder: Path, tmp_path: Path) -> None:
    configure = import_script("configure").configure
    paths = tmp_path / "teacher.cfg", tmp_path / "student.cfg"
    configure(ROOT / "configs" / "reviews.cfg", *paths, checkpoint=str(bert_folder))
    encoders = [load_config(path)["components"]["distilbert"]["model"] for path in paths]
    assert [encoder["layers"] for encoder in encoders] == [None, [0, 2]]
    assert [encoder["sha256"] for encoder in encoders] == [None, None]
    configure(ROOT / "configs" / "reviews.cfg", *paths, checkpoint=str(bert_folder), layers="1,3")
    assert load_config(paths[1])["components"]["distilbert"]["model"]["layers"] == [1, 3]


def test_student_of_12_layers_keeps_those_of_distilbert() -> None:
    choose_layers = import_script("configure").choose_layers
    assert choose_layers(12) == [0, 2, 4, 7, 9, 11]
    assert choose_layers(6) == [0, 2, 4]


# Data


def test_reviews_convert_with_all_their_annotation(reviews: list[dict[str, Any]], tmp_path: Path) -> None:
    some = [next(review for review in reviews if review["split"] == split) for split in ("train", "dev", "test")]
    srsly.write_jsonl(tmp_path / "reviews.jsonl", some)
    import_script("prepare_reviews").prepare_reviews(tmp_path / "reviews.jsonl", tmp_path / "corpus")
    nlp = spacy.blank("en")
    for review in some:
        (doc,) = DocBin().from_disk(tmp_path / "corpus" / f"{review['split']}.spacy").get_docs(nlp.vocab)
        assert doc.text == review["text"]
        chosen = {label for label, value in doc.cats.items() if value}
        assert chosen == {review["sentiment"], *review["aspects"]}
        assert [[ent.start_char, ent.end_char, ent.label_] for ent in doc.ents] == review["entities"]
        assert len(doc.cats) == 11


def test_a_review_whose_entity_cuts_a_token_is_an_error(reviews: list[dict[str, Any]]) -> None:
    review = {**reviews[0], "entities": [[0, 1, "ORG"], [1, 2, "ORG"]]}
    with pytest.raises(ValueError, match="culture-001: ORG"):
        import_script("prepare_reviews").make_doc(spacy.blank("en"), review)


def test_the_labels_of_the_config_are_those_of_the_reviews(reviews: list[dict[str, Any]]) -> None:
    script = import_script("prepare_reviews")
    components = load_config(ROOT / "configs" / "reviews.cfg")["initialize"]["components"]
    assert components["sentiment"]["labels"] == list(script.SENTIMENTS) == sorted({r["sentiment"] for r in reviews})
    aspects = {aspect for review in reviews for aspect in review["aspects"]}
    assert components["aspects"]["labels"] == list(script.ASPECTS) == sorted(aspects)


def test_split_of_the_reviews_is_fixed_and_balanced(reviews: list[dict[str, Any]]) -> None:
    assert len({review["id"] for review in reviews}) == len(reviews) == 480
    for split, size in {"train": 344, "dev": 40, "test": 96}.items():
        part = [review for review in reviews if review["split"] == split]
        assert len(part) == size
        for domain in {review["domain"] for review in reviews}:
            assert sum(review["domain"] == domain for review in part) == size / 8
        for sentiment, share in {"positive": 0.4, "negative": 0.4, "neutral": 0.2}.items():
            assert sum(review["sentiment"] == sentiment for review in part) == pytest.approx(
                share * size, abs=size / 24
            )


def test_split_of_banking77_is_fixed_stratified_and_disjoint() -> None:
    split_rows = import_script("prepare_banking77").split_rows
    rows = [(f"question {i}", intent) for intent in ("a", "b") for i in range(100 if intent == "a" else 50)]
    parts = split_rows([*rows, rows[0]])
    assert {split: len(pairs) for split, pairs in parts.items()} == {"train": 105, "dev": 15, "test": 30}
    assert sorted(pair for pairs in parts.values() for pair in pairs) == sorted(rows)
    for share in ("a", "b"):
        assert sum(intent == share for _, intent in parts["test"]) == (20 if share == "a" else 10)
    assert split_rows(list(reversed(rows))) == parts
    more = split_rows([*rows, ("one more", "b")])
    assert len(set(more["test"]) - set(parts["test"])) <= 1


def test_banking77_converts(tmp_path: Path) -> None:
    lines = [f'"Where is my card number {i}?\n",card_arrival\nWhy {i}?,fee' for i in range(10)]
    (tmp_path / "train.csv").write_text("text,category\n" + "\n".join(lines), encoding="utf8")
    import_script("prepare_banking77").prepare_banking77(tmp_path / "train.csv", tmp_path / "corpus")
    docs = list(DocBin().from_disk(tmp_path / "corpus" / "test.spacy").get_docs(spacy.blank("en").vocab))
    assert len(docs) == 4
    assert {tuple(doc.cats.items()) for doc in docs} == {
        (("card_arrival", 1.0), ("fee", 0.0)),
        (("card_arrival", 0.0), ("fee", 1.0)),
    }
    assert all(doc.text == doc.text.strip() for doc in docs)


CONLLU = """# newdoc id = a
# sent_id = 1
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
1\tDo\tdo\tAUX\tVB\tMood=Imp\t0\troot\t_\t_
2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_
3\t!\t!\tPUNCT\t.\t_\t1\tpunct\t_\t_

"""
SENTENCE = "1\tAir\tair\tNOUN\tNN\tNumber=Sing\t0\troot\t_\t_\n2\tcraft\t_\tX\tGW\t_\t1\tgoeswith\t_\t_\n\n"


def test_ewt_converts_with_all_its_annotation_in_docs_of_ten_sentences(tmp_path: Path) -> None:
    (tmp_path / "dev.conllu").write_text(CONLLU + SENTENCE * 11 + f"# newdoc id = b\n{SENTENCE}" * 2, encoding="utf8")
    import_script("prepare_ewt").prepare_ewt(tmp_path / "dev.conllu", tmp_path / "dev.conllu", tmp_path / "corpus")
    docs = list(DocBin().from_disk(tmp_path / "corpus" / "test.spacy").get_docs(spacy.blank("en").vocab))
    assert [len(list(doc.sents)) for doc in docs] == [10, 2, 1, 1]
    first = docs[0][:3]
    assert first.text == "Don't!"
    assert [(t.tag_, t.pos_, str(t.morph), t.lemma_, t.dep_, t.head.i) for t in first] == [
        ("VB", "AUX", "Mood=Imp", "do", "ROOT", 0),
        ("RB", "PART", "", "not", "advmod", 0),
        (".", "PUNCT", "", "!", "punct", 0),
    ]
    assert [token.lemma_ for token in docs[2]] == ["air", ""]
    assert docs[2].text.strip() == "Air craft"


def test_parts_of_the_public_sets_are_disjoint_and_the_published_dev_part_is_the_test_part(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("".join(f"post\tO\n{i}\tO\n\t\n" for i in range(200)), encoding="utf8")
    (tmp_path / "dev").write_text("In\tO\nNew\tB-location\nYork\tI-location\n\nBye\tO\n", encoding="utf8")
    import_script("prepare_wnut17").prepare_wnut17(tmp_path / "train", tmp_path / "dev", tmp_path / "corpus")
    vocab = spacy.blank("en").vocab
    parts = [list(DocBin().from_disk(tmp_path / "corpus" / f"{part}.spacy").get_docs(vocab)) for part in SPLITS]
    train, dev, test = ([doc.text.strip() for doc in part] for part in parts)
    assert 5 < len(dev) < 40
    assert sorted(train + dev) == sorted(f"post {i}" for i in range(200))
    assert test == ["In New York", "Bye"]
    assert [(ent.text.strip(), ent.label_) for doc in parts[2] for ent in doc.ents] == [("New York", "location")]
    assert all(doc.has_unknown_spaces and doc.has_annotation("ENT_IOB") for part in parts for doc in part)


def test_texts_without_labels_are_paragraphs_and_tweets(tmp_path: Path) -> None:
    script = import_script("prepare_unlabelled")
    paragraph = "Anarchism is a political philosophy that advocates stateless societies. It is old."
    article = f'<doc id="12" title="Anarchism">\nAnarchism\n\n{paragraph}\nHistory.\n{paragraph} <span>\n</doc>\n'
    (tmp_path / "wiki").write_text(article * 2, encoding="utf8")
    script.wikipedia(tmp_path / "new" / "wikipedia.jsonl", [tmp_path / "wiki"])
    assert list(srsly.read_jsonl(tmp_path / "new" / "wikipedia.jsonl")) == [{"text": paragraph}]
    (tmp_path / "btc").write_text("RT\tO\n@\tO\nme\tB-PER\n\n:)\tO\n", encoding="utf8")
    script.tweets(tmp_path / "tweets.jsonl", [tmp_path / "btc"])
    assert list(srsly.read_jsonl(tmp_path / "tweets.jsonl")) == [{"text": "RT @ me"}, {"text": ":)"}]


def test_texts_without_labels_are_requests_of_some_domains(tmp_path: Path) -> None:
    script = import_script("prepare_unlabelled")
    srsly.write_json(tmp_path / "domains.json", {"banking": ["transfer"], "travel": ["visa"], "cards": ["lost"]})
    rows = [["send money", "transfer"], ["do i need a visa", "visa"], ["my card is gone", "lost"]]
    srsly.write_json(tmp_path / "set.json", {"train": rows, "val": [["pay bob", "transfer"]]})
    (tmp_path / "train.spacy").write_bytes(b"corpus")
    output, files = tmp_path / "taught" / "requests.jsonl", (tmp_path / "set.json", tmp_path / "domains.json")
    script.requests(output, *files, ["banking", "cards"], beside=tmp_path / "train.spacy")
    assert list(srsly.read_jsonl(output)) == [{"text": "send money"}, {"text": "my card is gone"}]
    assert (output.parent / "train.spacy").read_bytes() == b"corpus"
    with pytest.raises(SystemExit):
        script.requests(output, *files, ["kitchen"])


def test_goemotions_converts_with_one_sentiment_a_text(tmp_path: Path) -> None:
    script = import_script("prepare_goemotions")
    emotions = [emotion for group in script.GROUPS.values() for emotion in group]
    (tmp_path / "labels.txt").write_text("\n".join(emotions), encoding="utf8")
    for part, text in {"train": "Some", "dev": '"Quoted'}.items():
        lines = [f"{text}  text {i}\t{emotions.index('joy')},{emotions.index('surprise')}\tid\n" for i in range(50)]
        (tmp_path / f"{part}.tsv").write_text("".join(lines), encoding="utf8")
    script.prepare_goemotions(*(tmp_path / name for name in ("train.tsv", "dev.tsv", "labels.txt", "corpus")))
    docs = list(DocBin().from_disk(tmp_path / "corpus" / "test.spacy").get_docs(spacy.blank("en").vocab))
    assert [doc.text for doc in docs] == [f'"Quoted text {i}' for i in range(50)]
    assert [label for label, value in docs[0].cats.items() if value] == ["surprise", "joy", "POSITIVE"]
    assert set(docs[0].cats) == {*emotions, *script.GROUPS}


@pytest.mark.parametrize(
    ("emotions", "sentiment"),
    [
        (["neutral"], "NEUTRAL"),
        (["joy", "neutral", "surprise"], "POSITIVE"),
        (["anger", "fear", "neutral"], "NEGATIVE"),
        (["curiosity", "neutral"], "AMBIGUOUS"),
        (["joy", "fear"], "AMBIGUOUS"),
        (["joy", "fear", "neutral"], "AMBIGUOUS"),
    ],
)
def test_the_sentiment_is_the_group_of_the_emotions(emotions: list[str], sentiment: str) -> None:
    assert import_script("prepare_goemotions").find_sentiment(emotions) == sentiment


def test_the_labels_of_the_config_are_those_of_goemotions() -> None:
    groups = import_script("prepare_goemotions").GROUPS
    components = load_config(ROOT / "configs" / "goemotions.cfg")["initialize"]["components"]
    assert components["sentiment"]["labels"] == sorted(groups)
    assert components["emotions"]["labels"] == sorted(emotion for group in groups.values() for emotion in group)
    assert len(components["emotions"]["labels"]) == 28


# Scripts


def test_an_asset_that_is_there_with_the_right_checksum_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = import_script("fetch_asset").fetch
    (tmp_path / "data.csv").write_text("a,b\n")
    checksum = get_checksum(tmp_path / "data.csv")
    asset = {"dest": "data.csv", "url": "https://localhost:1/data.csv", "checksum": checksum}
    srsly.write_yaml(tmp_path / "project.yml", {"assets": [asset]})
    monkeypatch.chdir(tmp_path)
    fetch("data.csv")
    with pytest.raises(SystemExit):
        fetch("other.csv")


def test_an_asset_without_a_checksum_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = {"dest": "data.csv", "url": "https://localhost:1/data.csv"}
    srsly.write_yaml(tmp_path / "project.yml", {"assets": [asset]})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        import_script("fetch_asset").fetch("data.csv")
    (tmp_path / "data.csv").write_text("mine")
    import_script("fetch_asset").fetch("data.csv")
    assert (tmp_path / "data.csv").read_text() == "mine"


def test_the_articles_of_squad_are_wholly_in_one_part(tmp_path: Path) -> None:
    articles = [
        {"title": f"Article {i}", "paragraphs": [{"context": "Ada", "qas": [{"question": "Who?"}] * (i + 1)}]}
        for i in range(30)
    ]
    (tmp_path / "all.json").write_text(json.dumps({"data": articles}), encoding="utf8")
    paths = [tmp_path / name for name in ("train.json", "dev.json")]
    import_script("split_squad").split_squad(tmp_path / "all.json", *paths, share=0.3)
    train, dev = (json.loads(path.read_text(encoding="utf8"))["data"] for path in paths)
    assert dev
    assert len(train) > len(dev)
    assert sorted((*train, *dev), key=lambda a: int(a["title"].split()[1])) == articles


def test_an_asset_that_can_not_be_fetched_ends_the_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asset = {"dest": "data.csv", "url": "https://localhost:1/data.csv", "checksum": "0" * 32}
    srsly.write_yaml(tmp_path / "project.yml", {"assets": [asset]})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        import_script("fetch_asset").fetch("data.csv")
    assert "is not there" in capsys.readouterr().out


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, int], str]]:
    """Serves bytes on this machine, under any length, and gives their address."""
    servers = []

    def start(content: bytes, length: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/data.csv"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("length", [8, 80])
@pytest.mark.parametrize("checked", [True, False])
def test_an_asset_is_fetched_to_its_end_or_not_at_all(
    serve: Callable[[bytes, int], str],
    length: int,
    checked: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    asset = {"dest": "new/data.csv", "url": serve(b"a,b\n1,2\n", length)}
    checksum = {"checksum": hashlib.md5(b"a,b\n1,2\n").hexdigest()} if checked else {}
    srsly.write_yaml(tmp_path / "project.yml", {"assets": [{**asset, **checksum}]})
    fetch = import_script("fetch_asset").fetch
    if length == 8:
        fetch("new/data.csv")
        assert (tmp_path / "new" / "data.csv").read_bytes() == b"a,b\n1,2\n"
    else:
        with pytest.raises(SystemExit):
            fetch("new/data.csv")
        assert not list((tmp_path / "new").iterdir())


def test_a_file_with_another_checksum_is_replaced_by_the_right_one_alone(
    serve: Callable[[bytes, int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("half")
    fetch = import_script("fetch_asset").fetch
    asset = {"dest": "data.csv", "url": serve(b"whole", 5), "checksum": "0" * 32}
    srsly.write_yaml(tmp_path / "project.yml", {"assets": [asset]})
    with pytest.raises(SystemExit):
        fetch("data.csv")
    assert (tmp_path / "data.csv").read_text() == "half"
    asset["checksum"] = hashlib.md5(b"whole").hexdigest()
    srsly.write_yaml(tmp_path / "project.yml", {"assets": [asset]})
    fetch("data.csv")
    assert (tmp_path / "data.csv").read_text() == "whole"


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit):
        import_script("try_package").try_package(Path("a.whl"), tmp_path, "text", "?", tmp_path / "out.txt")
    assert (tmp_path / "mine.txt").exists()


def test_each_seed_trains_in_a_folder_of_its_own_and_a_failure_ends_the_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "import sys\nfrom pathlib import Path\nPath(sys.argv[3], 'argv').write_text(' '.join(sys.argv[1:]))\n"
    (tmp_path / "fake_train.py").write_text(module + "assert sys.argv[-1] != '3'\n")
    monkeypatch.chdir(tmp_path)
    train_seeds = import_script("train_seeds").train_seeds
    train_seeds(Path("out"), "1,2", ["fake_train", "student.cfg"])
    for seed in ("1", "2"):
        assert Path("out", seed, "argv").read_text() == f"student.cfg --output out/{seed} --system.seed {seed}"
    with pytest.raises(SystemExit):
        train_seeds(Path("out"), "3,4", ["fake_train", "student.cfg"])
    assert not Path("out", "4").exists()


def test_the_readme_shows_the_demo_as_it_is() -> None:
    demo = (ROOT / "scripts" / "demo.py").read_text(encoding="utf8").split('"""\n', 1)[1].strip()
    assert f"```python\n{demo}\n```" in (ROOT / "README.md").read_text(encoding="utf8")
    assert len(demo.splitlines()) <= 40


def test_documents_link_to_files_that_are_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf8")):
            assert (page.parent / link).exists(), (page.name, link)
