"""Without TransformerLens, loading GPT-2 prints one line and the notebook goes on. With it, see
tests/parity/test_gpt2.py."""

import subprocess
import sys

import pytest

from circuits.gpt2 import load_gpt2


def hide(monkeypatch, name: str, error: Exception) -> None:
    """Make `import name` raise `error`."""

    class Finder:
        def find_spec(self, fullname, path=None, target=None):
            if fullname == name:
                raise error

    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


@pytest.mark.parametrize(
    "error, words",
    [
        (ModuleNotFoundError("no", name="transformer_lens"), "pip install transformer-lens==3.9.0"),
        (ModuleNotFoundError("No module named 'pandas'", name="pandas"), "'pandas'"),
        (ImportError("cannot import\nname 'HookedTransformer'"), "3.9.0. cannot import name"),
        (AttributeError("module 'torch' has no attribute"), "3.9.0. module 'torch'"),
    ],
)
def test_no_package_is_one_line(error, words, monkeypatch, capsys):
    hide(monkeypatch, "transformer_lens", error)
    assert load_gpt2() is None
    out, err = capsys.readouterr()
    assert out.startswith("GPT-2 is left out: ") and out.count("\n") == 1 and err == ""
    assert words in out


def test_importing_the_helper_imports_neither():
    code = "import circuits.gpt2, sys; assert not {'transformer_lens', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
