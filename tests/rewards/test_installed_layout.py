"""The list of packages in pyproject.toml, and the rewards found in a wheel and an editable install."""

import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
BUNDLED = {"rewards", "experiments"}
PROBE = """
import itscale.rewards, itscale.experiments, itscale.rewards.symmetry as module
from itscale.scoring import as_reward
import torch
assert as_reward("symmetry(axis='v') + jpeg-compressibility").score(torch.zeros(2, 1, 8, 8)).valid.all()
assert module.__name__ == "itscale.rewards.symmetry"
print(module.__file__)
print(itscale.experiments.FOLDER)
"""


def folders(top):
    return {path.parent.relative_to(ROOT) for path in (ROOT / top).rglob("*.py")}


def test_package_list_equals_the_folders():
    expected = {".".join(folder.parts) for folder in folders("itscale")}
    expected |= {".".join(("itscale", "_bundled", *f.parts)) for top in BUNDLED for f in folders(top)}
    listed = set(SETTINGS["packages"])
    assert sorted(listed) == sorted(SETTINGS["packages"]), "one of them is listed twice"
    assert expected - listed == set(), "add these to tool.setuptools.packages"
    assert listed - expected == set(), "remove these from tool.setuptools.packages"


def test_bundled_folders_are_mapped():
    assert SETTINGS["package-dir"] == {f"itscale._bundled.{top}": top for top in BUNDLED}


def test_files_inside_rewards_import_absolutely_only_from_itscale_and_libraries():
    for path in (ROOT / "rewards").rglob("*.py"):
        text = path.read_text()
        assert "from rewards" not in text, path
        assert "import rewards" not in text, path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what a build reads, so that nothing is written into the checkout."""
    found = int(metadata.version("setuptools").split(".")[0])
    assert found >= 77, f"building needs setuptools 77, and {found} is installed: pip install -e '.[test]'"
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / "README.md").write_text("itscale\n")
    for name in ("itscale", *BUNDLED):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, source, tmp_path_factory):
    """The Python of a fresh environment with itscale installed and the libraries of this one."""
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    paths = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (Path(paths.stdout.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    target = [source] if request.param == "wheel" else ["--editable", source]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([python, "-m", "pip", "install", *options, *target], check=True)
    return request.param, python


@pytest.mark.slow
@pytest.mark.parametrize("place", ["elsewhere", "repository", "own rewards.py"])
def test_rewards_are_found_from_everywhere(installed, source, tmp_path, place):
    kind, python = installed
    folder = source if place == "repository" else tmp_path
    if place == "own rewards.py":
        (folder / "rewards.py").write_text("raise RuntimeError('the wrong rewards')")
        (folder / "experiments.py").write_text("raise RuntimeError('the wrong experiments')")
    out = subprocess.run([python, "-c", PROBE], cwd=folder, capture_output=True, text=True, check=True)
    file, experiments = map(Path, out.stdout.split("\n")[:2])
    from_source = kind == "editable" or place == "repository"
    assert file.is_relative_to(source) is from_source
    assert (experiments / "train_digits.py").is_file()
