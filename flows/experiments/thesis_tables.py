"""The tables and figures of a thesis on latent diffusion models, as data."""

from collections.abc import Iterator, Mapping
from typing import Any

from flows.experiments.benchmark_methods import SRGAN
from flows.experiments.paper_rows import BICUBIC, RESIDUAL, PaperRow, PaperTable, restored

IMAGES_ONLY = "The thesis shows images and no numbers"
TISSUE = f"{IMAGES_ONLY}. SRGAN is EDSR's network with a perceptual and an adversarial loss."


def _trained_for(model: str, method: Mapping[str, Any]) -> Iterator[PaperRow]:
    """A model trained on bicubic LR images, and on mixed degradations, each tested on both; beside bicubic."""
    for trained, name in (("antialias", "bicubic"), ("realworld", "mixed")):
        for tested in ("antialias", "realworld"):
            yield PaperRow(
                f"{model}-{name}", 32, {**method, "protocol": trained}, {"any_protocol": True}, protocol=tested
            )


def _tissue(low: int, *named: str) -> tuple[PaperRow, ...]:
    """The methods of the thesis on H&E tiles, and ours."""
    methods: Mapping[str, Mapping[str, Any]] = {
        "SRCNN": {"method": "srcnn"},
        "SRGAN": SRGAN,
        "DDPMSR": {"method": "sr3"},
        "VAE-DDPM": {"method": "vae-ddpm"},
        "VQVAE-DDPM": {"method": "vqvae-ddpm"},
    }
    rows = (PaperRow(name, low, methods[name]) for name in named)
    return (PaperRow("bicubic", low, use=BICUBIC), *rows, PaperRow("dtls", low, RESIDUAL))


METHODS: Mapping[str, Mapping[str, Any]] = {
    "SRCNN": {"method": "srcnn"},
    "FSRCNN": {"method": "fsrcnn"},
    "ESRGAN": {"method": "rrdb", "network": {"blocks": "8"}},
    "DDPM": {"method": "sr3"},
    "VAE-DDPM": {"method": "vae-ddpm"},
    "VQVAE-DDPM": {"method": "vqvae-ddpm"},
    "dtls": {},
}
"""The thesis' methods on faces, and ours: how each is trained."""
ON_FACES: Mapping[str, Mapping[str, float]] = {
    "SRCNN": {"psnr": 26.30, "ssim": 0.723, "parameters": 69e3},
    "FSRCNN": {"psnr": 26.47, "ssim": 0.748, "parameters": 25e3},
    "ESRGAN": {"psnr": 27.24, "ssim": 0.838, "parameters": 5949e3},
    "DDPM": {"psnr": 29.28, "ssim": 0.864, "parameters": 308_569e3},
    "VAE-DDPM": {"psnr": 28.45, "ssim": 0.856, "parameters": 114_446e3},
    "VQVAE-DDPM": {"psnr": 29.81, "ssim": 0.878, "parameters": 114_446e3},
}
"""Its Table 5.1."""
PARTS = {"eighth": 1 / 8, "quarter": 1 / 4, "half": 1 / 2, "whole": 1.0}
"""Shares of the training steps."""
THESIS_TABLES: dict[str, PaperTable] = {
    "5.1": PaperTable(
        "Thesis, Table 5.1: methods on faces",
        "16-128",
        (
            PaperRow("bicubic", 32, use=BICUBIC),
            *(PaperRow(name, 32, train, published=ON_FACES.get(name, {})) for name, train in METHODS.items()),
        ),
        "The thesis does not say at which size and scale; 32→128 is our reading, and CelebA its data. Its diffusion "
        "models are larger than ours (308,569 and 114,446 thousand parameters), its ESRGAN as large (5,949).",
    ),
    "5.2": PaperTable(
        "Thesis, Table 5.2: people whom results satisfy",
        "16-128",
        (
            PaperRow("bicubic", 32, use=BICUBIC),
            PaperRow("SRCNN", 32, {"method": "srcnn"}, published={"satisfied": 0.10}),
            PaperRow("FSRCNN", 32, {"method": "fsrcnn"}, published={"satisfied": 0.11}),
            PaperRow("ESRGAN", 32, {"method": "rrdb", "network": {"blocks": "8"}}, published={"satisfied": 0.40}),
            PaperRow("DDPM", 32, {"method": "sr3"}, published={"satisfied": 0.70}),
            PaperRow("VAE-DDPM", 32, {"method": "vae-ddpm"}, published={"satisfied": 0.62}),
            PaperRow("VQVAE-DDPM", 32, {"method": "vqvae-ddpm"}, published={"satisfied": 0.75}),
            PaperRow("dtls", 32),
        ),
        "Other people, other images: hand out rating/ of the report, and give what they save by --ratings.",
        rated=True,
    ),
    "5.7": PaperTable(
        "Thesis, Fig. 5.7: losses and costs",
        "16-128",
        tuple(PaperRow(name, 32, train) for name, train in METHODS.items()),
        "Losses are of different quantities (images, noise, latents), so that only their courses can be compared.",
        costs=("steps", "parameters", "seconds", "memory"),
        figure="losses",
    ),
    "5.8": PaperTable(
        "Thesis, Fig. 5.8: parameters against quality",
        "16-128",
        tuple(PaperRow(name, 32, train, published=ON_FACES.get(name, {})) for name, train in METHODS.items()),
        "Rows and models are those of Table 5.1.",
        costs=("parameters",),
        figure="parameters",
    ),
    "5.9": PaperTable(
        "Thesis, Fig. 5.9: results along the training",
        "16-128",
        tuple(
            PaperRow(f"{name}-{part}", 32, METHODS[name], share=share)
            for name in ("DDPM", "VAE-DDPM", "VQVAE-DDPM", "dtls")
            for part, share in PARTS.items()
        ),
        f"{IMAGES_ONLY}. Each row is a training of its own, as the cosine of the learning rate ends with the last "
        "step. The report shows the images.",
        costs=("steps",),
        figure="steps",
    ),
    "5.10": PaperTable(
        "Thesis, Fig. 5.10: mixed degradations against bicubic in training",
        "16-128",
        (
            *(PaperRow("bicubic", 32, use=BICUBIC, protocol=tested) for tested in ("antialias", "realworld")),
            *_trained_for("EDSR", {"method": "edsr"}),
            *_trained_for("VQVAE-DDPM", {"method": "vqvae-ddpm"}),
        ),
        f"{IMAGES_ONLY}. LR images by antialias are bicubic; realworld is blur, down-sampling, noise and JPEG in any "
        "order, of which there is no consistency. The thesis gives no ranges; ours are milder than BSRGAN's.",
    ),
    "5.11": PaperTable(
        "Thesis, Fig. 5.11: H&E tiles ×4",
        "16-128",
        _tissue(32, "SRGAN", "DDPMSR", "VAE-DDPM", "VQVAE-DDPM"),
        TISSUE,
        protocol="antialias",
    ),
    "5.12": PaperTable(
        "Thesis, Fig. 5.12: H&E tiles ×8",
        "16-128",
        _tissue(16, "SRCNN", "SRGAN", "DDPMSR", "VQVAE-DDPM"),
        TISSUE,
        protocol="antialias",
    ),
    "5.13": PaperTable(
        "Thesis, Fig. 5.13: colourisation",
        "16-128",
        (
            *restored("colourise"),
            PaperRow("dtls-projected", 128, RESIDUAL, {"project": True}, task="colourise"),
            *(
                PaperRow(name, 128, is_computed=False, task="colourise")
                for name in ("Zhang et al.", "DCGAN", "VQVAE-DDPM")
            ),
        ),
        f"{IMAGES_ONLY} of Zhang et al., DCGAN and VQVAE-DDPM. Weights of the first two are not available, and "
        "VQ-VAE-DDPM learns super-resolution only here. --project keeps the luma of each pixel.",
    ),
}
