"""Install a packaged pipeline in a fresh virtual environment, and run it there on a text."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import typer
from wasabi import msg

CONSTRAINTS = Path("constraints.txt")


def try_package(wheel: Path, environment: Path, text: str, question: str, output: Path) -> None:
    """WHEEL: the package. ENVIRONMENT: folder of the environment, made anew. OUTPUT: a file for what the pipeline says."""
    if environment.exists() and not (environment / "pyvenv.cfg").exists():
        msg.fail(f"{environment} is no virtual environment, and is left alone", "Name another folder.", exits=1)
    shutil.rmtree(environment, ignore_errors=True)
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pins = ["-c", str(CONSTRAINTS)] if CONSTRAINTS.exists() else []
    run(python, "-m", "pip", "install", "--progress-bar", "on", *pins, ".", wheel)
    pipeline = wheel.name.split("-")[0]
    demo = Path(__file__).with_name("demo.py")
    said = run(python, demo, "--pipeline", pipeline, "--text", text, "--question", question, stdout=subprocess.PIPE)
    print(said)
    output.write_text(said, encoding="utf8")
    msg.good(f"{pipeline} runs in {environment}, and {output} has what it says")


def run(*command: str | Path, stdout: int | None = None) -> str:
    """Without the network for weights: a packaged pipeline holds its own. Returns the output where it is piped."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf8"}
    try:
        return subprocess.run(
            [str(part) for part in command], check=True, env=offline, stdout=stdout, encoding="utf8"
        ).stdout
    except subprocess.CalledProcessError as error:
        msg.fail(f"{Path(command[0]).name} ended with {error.returncode}", "Its messages are above.", exits=1)


if __name__ == "__main__":
    typer.run(try_package)
