"""Fixtures that tests of several folders share: tiny random models, and where the larger ones may lie."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny_gguf import Shape, write_tiny

ROOT = Path(__file__).resolve().parent.parent
SHARED_MODELS = ROOT.parent / "shared" / "models"  # beside the developers' checkouts; users do not have it

settings.register_profile("halo", deadline=None)  # a busy machine is no failure
settings.load_profile("halo")

# Whoever runs the tests in the background may have these ignored, and programs that we start would, too.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

TinyModel = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def no_broker_of_ones_own() -> Iterator[None]:
    """A developer's own HALO_BROKER would turn commands that shall run here alone into cells at that broker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HALO_BROKER", raising=False)
        yield


@pytest.fixture
def plain_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `Llama` of llama-cpp-python computes as the oracle does."""
    library = pytest.importorskip("llama_cpp.llama_cpp")
    from tests.llama.oracle import plain_params

    monkeypatch.setattr(library, "llama_model_default_params", plain_params)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Whoever runs the tests, the test runs as somebody who may neither read nor write everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Returns a function: type and shape of a tiny random model -> its path; files are written once."""
    folder = tmp_path_factory.mktemp("tiny")
    made: dict[tuple[str, Shape], Path] = {}

    def make(kind: str = "Q4_0", shape: Shape | None = None) -> Path:
        key = (kind, shape or Shape())
        if key not in made:
            made[key] = write_tiny(folder / f"{kind}-{len(made)}.gguf", kind, key[1])
        return made[key]

    return make
