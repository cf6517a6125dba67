"""What `dtls upscale` refuses before any work, and what it says then."""

import pytest
from pydantic import ValidationError

from dtls.registry import MODELS
from flows.upscale import UpscaleOptions


def options(**values: object) -> UpscaleOptions:
    return UpscaleOptions.model_validate({"source": "a", "target": "b", "method": "bicubic", "scale": 2, **values})


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ("Lanczos", "lanczos"),
        ("NEAREST", "nearest"),
        ("Spandrel:My/Model.PTH", "spandrel:My/Model.PTH"),
        ("spandrel:s3://bucket/A.pth", "spandrel:s3://bucket/A.pth"),
    ],
)
def test_methods_are_known_in_any_case_and_files_keep_theirs(given: str, method: str) -> None:
    assert options(method=given).method == method


def test_dtls_is_known_in_any_case() -> None:
    assert options(method="DTLS", checkpoint="model").method == "dtls"


@pytest.mark.parametrize(
    ("given", "guess"),
    [
        ("bicubc", " (did you mean bicubic?)"),
        ("LANCZOS3", " (did you mean lanczos?)"),
        ("spandrel", " (did you mean spandrel:FILE?)"),
        ("spandrel:", " (did you mean spandrel:FILE?)"),
        ("magic", ""),
        ("", ""),
    ],
)
def test_an_unknown_method_is_guessed_and_all_are_told(given: str, guess: str) -> None:
    with pytest.raises(ValidationError) as refused:
        options(method=given)
    known = f"nearest, bilinear, bicubic, lanczos, {', '.join(MODELS)} and spandrel:FILE"
    assert f"no method is called {given!r}{guess}; there are {known}" in str(refused.value)


def test_an_unknown_sampler_is_refused_and_all_are_told() -> None:
    with pytest.raises(ValidationError, match=r"Input should be 'two-call', .* 'ddim' or 'ddpm'"):
        options(method=None, checkpoint="model", sampler="foo")


@pytest.mark.parametrize(
    "target",
    ["b.rar", "b.7z", "b.tar.bz2", "b.TAR.XZ", "s3://bucket/b.tar.zst", "b.txz", "b.gz", "b.jpg", "b.PNG", "b.heic"],
)
def test_a_target_that_is_called_as_another_kind_of_file_is_refused(target: str) -> None:
    with pytest.raises(ValidationError, match=r"a target is a folder, \.zip, \.tar\.gz or \.tar"):
        options(target=target)


@pytest.mark.parametrize(
    "target", ["b", "b.zip", "b.tar", "b.TAR.GZ", "b.tgz", "s3://bucket/b.v2", "b.jpg/", "photos.d", "b.png/c", "."]
)
def test_folders_and_archives_are_targets(target: str) -> None:
    assert options(target=target).target == target


def test_what_all_need_comes_before_what_some_do() -> None:
    names = UpscaleOptions.in_order()
    assert names[:6] == ["source", "target", "method", "checkpoint", "scale", "size"]
    assert names.index("format") < names.index("sampler") < names.index("device") < names.index("runner")
    assert list(UpscaleOptions.model_json_schema()["properties"]) == names
