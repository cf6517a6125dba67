"""What `dtls/report` can be told: which images, what is measured, and what is published."""

import re
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dtls.degradations.recorded import canonical, from_task
from flows.evaluation.matching import KEY, Naming, Template
from flows.inputs.options import SourceOptions
from flows.interface.options import DEVICE, RESULTS, RUNNING, WHAT, Address, Panels
from reports.metrics.choices import Colour, FeatureName
from storage.images.budget import CodecName

RUN = r"[\w.+-]{1,64}"
NAMED = r"[\w.+×-]{1,64}="
REAL, TRAIN = "real", "train"
"""What the sets are called that generated ones are compared with."""
OF_RESULTS = ("hr", "lr", "sr_name", "lr_name", "protocol", "any_protocol", "sets", "rates", "figures", "ratings")
"""Options of a report on results; those of one on generated images are below."""
OF_SETS = ("real", "train", "classifier")


def _named(value: object) -> object:
    """NAME=FOLDER texts, or a mapping, as a mapping; ValueError for names that cannot stand for a method."""
    if isinstance(value, list | tuple):
        pairs = [str(item).partition("=") for item in value]
        if any(not separator for _, separator, _ in pairs):
            raise ValueError("write each as NAME=FOLDER")
        names = [name for name, _, _ in pairs]
        if len(names) > len(set(names)):
            raise ValueError("two results have the same name")
        value = {name: folder for name, _, folder in pairs}
    for name in value if isinstance(value, dict) else ():
        if name in ("LR", "HR") or not re.fullmatch(r"[\w.+×-]{1,64}", str(name)):
            raise ValueError(
                f"{name!r} is no name for a method: letters, digits, and . _ + × - make one; LR and HR are taken"
            )
    return value


def _named_or_not(value: object) -> object:
    """The same, where a FOLDER alone has the last part of its address as its name."""
    if isinstance(value, list | tuple):
        value = [text if re.match(NAMED, text) else f"{_last_part(text)}={text}" for text in map(str, value)]
    found = _named(value)
    if isinstance(found, dict) and (taken := {REAL, TRAIN} & found.keys()):
        raise ValueError(f"{taken.pop()!r} is taken; name the set, e.g. --generated samples=FOLDER")
    return found


def _last_part(address: str) -> str:
    return re.sub(r"[^\w.+×-]", "-", address.rstrip("/").rpartition("/")[2])[:64]


class ReportOptions(SourceOptions):
    """What to compare."""

    panels: ClassVar[Panels] = {
        WHAT: "sr hr lr sr_name lr_name any_protocol generated real train",
        RESULTS: "out title gallery figures rating ratings run",
        RUNNING: "batch_size device",
    }

    sr: Annotated[dict[str, Address], BeforeValidator(_named)] = Field(
        default_factory=dict, description="results to compare, as NAME=FOLDER; repeat it for each method"
    )
    hr: Address | None = Field(
        None,
        description="folder, archive, image or URL of the HR images, the ground truth; without it only "
        "consistency is measured",
    )
    lr: Address | None = Field(
        None, description="folder or URL of what the methods were given: the LR images, or the degraded ones"
    )
    sr_name: list[str] = Field(
        default_factory=list,
        description="file names of results without a manifest: '{key}_x2' where f000.png became f000_x2.png; "
        "{method} stands for NAME; NAME=TEMPLATE is for one result, and is used instead of its manifest",
    )
    lr_name: str | None = Field(None, description="file names of LR images without a manifest, like '{key}x4'")
    out: Address = Field(description="folder or URL for the table, the summary, the page and the images")
    protocol: Annotated[str, AfterValidator(from_task), AfterValidator(canonical)] | None = Field(
        None,
        description="degradation that made the LR or degraded images: antialias, reference, realworld, grey, blur:2, "
        "…, or the task that undoes it, like deblur:2; by default the one in their manifest, else what the results' "
        "models were trained for, else reference",
    )
    any_protocol: bool = Field(
        False, description="measure results of models that were trained for another degradation than the LR images'"
    )
    colour: Colour = Field(
        "rgb", description="channels that PSNR and SSIM compare: rgb, or y, the luma that most papers use"
    )
    border: int = Field(
        0, ge=0, le=1024, description="pixels that PSNR and SSIM leave out on each side, like 4 for ×4"
    )
    data_range: float = Field(255, gt=0, le=255, description="peak value of PSNR and L of SSIM, in levels of 8 bits")
    lpips: Literal["alex", "vgg", "none"] = Field(
        "alex", description="network that LPIPS uses; vgg needs torchvision's VGG16 in torch hub's cache"
    )
    sets: bool = Field(
        False,
        description="measure FID, KID, precision, recall, density and coverage of all results as well; needs "
        "hundreds of images",
    )
    rates: bool = Field(
        False,
        description="compare with codecs, too: JPEG and WebP of the HR image in the bytes of the LR file; needs --hr "
        "and --lr",
    )
    features: FeatureName = Field(
        "inception",
        description="features that sets are compared by: inception, as in published numbers, which needs the extra "
        "fid; lpips; or pixels",
    )
    generated: Annotated[dict[str, Address], BeforeValidator(_named_or_not)] = Field(
        default_factory=dict,
        description="generated images to compare with --real instead of results with HR, as FOLDER or NAME=FOLDER; "
        "repeat it for each set",
    )
    real: Address | None = Field(
        None, description="folder, archive or URL of real images that --generated is compared with"
    )
    train: Address | None = Field(
        None,
        description="folder, archive or URL of the images that the model was trained on: each sample is shown beside "
        "the nearest; by default --real",
    )
    classifier: Address | None = Field(
        None,
        description="folder or URL of a classifier, as dtls train --method classifier makes it: adds the inception "
        "score of --generated; the real images have to be in folders of its classes",
    )
    title: str | None = Field(
        None, min_length=1, description="heading of the page, like 'Archive 1987, ×4'; by default the task"
    )
    gallery: int = Field(
        24, ge=0, le=100_000, description="images that the page shows, spread from the worst to the best, like 24"
    )
    figures: bool = Field(False, description="also write figures as papers print them, as PDF and PNG")
    rating: Literal["none", "grades", "pairs"] = Field(
        "none", description="make a page where people grade the gallery's results blind, from 1 to 4, or by pairs"
    )
    ratings: list[Address] = Field(
        default_factory=list,
        description="files that people exported from the rating page, to be summarised; repeat it for each",
    )
    run: str | None = Field(
        None,
        pattern=f"^{RUN}$",
        description="name of this run among those kept in runs/, like 2026-11-28; by default the day",
    )
    batch_size: int = Field(16, ge=1, le=1024, description="images of one size that are measured together, like 16")
    device: str = Field("auto", description=DEVICE)

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.generated:
            return self._says_what_is_real()
        if wrong := next((name for name in OF_SETS if getattr(self, name) is not None), None):
            raise ValueError(f"--{wrong} goes with --generated")
        if not self.sr:
            raise ValueError("--sr is required, e.g. --sr bicubic=results")
        if self.rates:
            self._check_rates()
        if self.hr is None and self.lr_name is not None:
            raise ValueError("--lr-name goes with --hr; without it, results are matched to the LR images' names")
        if self.hr is None and self.lr is None:
            raise ValueError("--hr or --lr is required: what the results are compared with")
        if self.lr_name is not None:
            Template(self.lr_name)
        _ = self.templates
        if self.rating == "pairs" and len(self.sr) < 2:
            raise ValueError("--rating pairs needs at least two results")
        return self

    def _check_rates(self) -> None:
        if self.hr is None or self.lr is None:
            raise ValueError("--rates needs --hr and --lr: HR images in the bytes of their LR files")
        if taken := next((name for name in get_args(CodecName) if name in self.sr), None):
            raise ValueError(f"--rates makes results called {taken}; give yours another name")

    def _says_what_is_real(self) -> Self:
        if self.sr:
            raise ValueError("--sr and --generated are two reports; give one of them")
        wrong = [
            name
            for name in OF_RESULTS
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
        ]
        if wrong or self.rating != "none":
            raise ValueError(f"--{(wrong or ['rating'])[0].replace('_', '-')} goes with --sr, not with --generated")
        if self.real is None:
            raise ValueError("--real is required: real images that the generated ones are compared with")
        return self

    @property
    def templates(self) -> dict[str, Template]:
        """The templates for names by the result that each is for; the one for all under an empty name."""
        found = {}
        for text in self.sr_name:
            name, equals, template = text.partition("=")
            if equals and name not in self.sr and KEY not in name:
                raise ValueError(f"--sr-name {text}: no result is named {name!r}")
            name, text = (name, template) if name in self.sr else ("", text)
            if name in found:
                raise ValueError(f"--sr-name: two templates for {name or 'all results'}; give one")
            found[name] = Template(text)
        return found

    def naming(self, name: str) -> Naming:
        """How the files of a result are named."""
        templates = self.templates
        return Naming("--sr-name", templates.get(name) or templates.get(""), name, comes_first=name in templates)
