"""The tables and ablations of the DTLS paper, of a thesis, and ours, as data."""

from flows.experiments.paper_rows import BICUBIC, RATE, RESIDUAL, SAMPLED, PaperRow, PaperTable, restored
from flows.experiments.thesis_tables import THESIS_TABLES

COLD_TASKS = ("deblur:2", "inpaint", "denoise:25/255")
CONTRASTS = (1.0, 0.5, 0.25)


def _theirs(label: str, low: int, **published: float) -> PaperRow:
    return PaperRow(label, low, published=published, is_computed=False)


def _dtls(low: int, **published: float) -> PaperRow:
    return PaperRow("dtls", low, published=published)


def _momentum(sampler: str, label: str, **published: float) -> PaperRow:
    return PaperRow(label, 32, use={"sampler": sampler}, published=published)


PAPER_TABLES: dict[str, PaperTable] = {
    "1": PaperTable(
        "Table 1: face super-resolution to 512×512",
        "32-512",
        (
            *(PaperRow("bicubic", low, use=BICUBIC) for low in (32, 64, 128)),
            _theirs("Face-SPARNet", 32, ssim=0.6044, psnr=21.9249),
            _theirs("Face-SPARNet", 64, ssim=0.7288, psnr=26.1935),
            _theirs("Face-SPARNet", 128, ssim=0.8179, psnr=29.2282),
            _theirs("GCFSR-blind", 32, ssim=0.6071, psnr=21.6363),
            _theirs("GCFSR-blind", 64, ssim=0.7270, psnr=25.7160),
            _theirs("GCFSR-blind", 128, ssim=0.8455, psnr=29.9659),
            _theirs("GCFSR-x32", 32, ssim=0.5818, psnr=21.2648),
            _theirs("GCFSR-x32", 64, ssim=0.6581, psnr=24.2048),
            _theirs("GCFSR-x32", 128, ssim=0.7282, psnr=26.5061),
            _theirs("GCFSR", 32, ssim=0.6431, psnr=22.8709),
            _theirs("GCFSR", 64, ssim=0.7528, psnr=26.8418),
            _theirs("GCFSR", 128, ssim=0.8747, psnr=31.3928),
            _dtls(32, ssim=0.7252, psnr=24.7641),
            _dtls(64, ssim=0.8141, psnr=28.6682),
            _dtls(128, ssim=0.8921, psnr=32.4579),
        ),
    ),
    "2": PaperTable(
        "Table 2: face super-resolution to 128×128",
        "16-128",
        (
            *(PaperRow("bicubic", low, use=BICUBIC) for low in (16, 32)),
            _theirs("SR3", 16, ssim=0.6922, psnr=23.5806),
            _theirs("SR3", 32, ssim=0.4890, psnr=18.0262),
            _theirs("IDM", 16, ssim=0.6426, psnr=23.0934),
            _theirs("IDM", 32, ssim=0.7465, psnr=24.0079),
            _dtls(16, ssim=0.7367, psnr=24.0065),
            _dtls(32, ssim=0.8636, psnr=27.6423),
        ),
        "SR3 and IDM were trained on antialiased LR images and tested on the authors', which are not.",
    ),
    "3": PaperTable(
        "Table 3: consistency to 128×128",
        "16-128",
        (
            *(PaperRow("bicubic", low, use=BICUBIC) for low in (16, 32)),
            _theirs("SR3", 16, authors_consistency=0.394),
            _theirs("SR3", 32, authors_consistency=2.439),
            _theirs("IDM", 16, authors_consistency=0.442),
            _theirs("IDM", 32, authors_consistency=1.597),
            _dtls(16, authors_consistency=0.125),
            _dtls(32, authors_consistency=0.648),
            PaperRow("dtls-projected", 16, use={"project": True}),
            PaperRow("dtls-projected", 32, use={"project": True}),
        ),
        "The authors' consistency sums 8-bit differences that wrap modulo 256; the true one is the mean of "
        "(A·SR − LR)² on [0, 1]. The two columns cannot be compared with each other.",
    ),
    "4": PaperTable(
        "Table 4: the momentum M",
        "32-512",
        (
            _momentum("none", "none", ssim=0.7110, psnr=24.5093),
            _momentum("last", "not-accumulated", ssim=0.7141, psnr=24.5760),
            _momentum("hr", "in-HR-domain", ssim=0.7233, psnr=24.7508),
            _momentum("current", "current", ssim=0.7252, psnr=24.7641),
            _momentum("undegraded", "undegraded", ssim=0.0832, psnr=15.9781),
            _momentum("written", "as-written"),
            _momentum("cold", "cold-diffusion"),
            _momentum("two-call", "two-call"),
            _momentum("one-call", "one-call"),
        ),
        "One network for all. two-call is current, one-call is in-HR-domain, in fewer passes.",
    ),
    "B1": PaperTable(
        "Table B1: the loss",
        "16-128",
        (
            PaperRow("l1", 16, published={"psnr": 24.0065, "ssim": 0.7367, "authors_consistency": 0.12523}),
            PaperRow(
                "mse", 16, {"loss": "mse"}, {}, {"psnr": 23.9653, "ssim": 0.7274, "authors_consistency": 0.14142}
            ),
        ),
        "The paper's consistency is its own formula; see Table 3.",
    ),
    "cold": PaperTable(
        "Cold Diffusion's tasks: blur, mask, noise and super-resolution",
        "16-128",
        (
            *(row for task in COLD_TASKS for row in restored(task)),
            PaperRow("bicubic", 16, use=BICUBIC, protocol="antialias"),
            PaperRow("dtls", 16, {**RESIDUAL, "protocol": "antialias"}, protocol="antialias"),
            PaperRow("cold", 16, {**RESIDUAL, "protocol": "antialias"}, {"sampler": "cold"}, protocol="antialias"),
        ),
        "One network for each task. cold is algorithm 2 of Cold Diffusion (2208.09392), dtls our default sampler: "
        "two calls, or one where the degradation is not linear, as noise is.",
    ),
    "faint": PaperTable(
        "Fig. D5: faint inputs, 16→128",
        "16-128",
        tuple(
            row
            for contrast in CONTRASTS
            for row in (
                PaperRow("bicubic", 16, use=BICUBIC, contrast=contrast),
                PaperRow("dtls", 16, RESIDUAL, contrast=contrast),
            )
        ),
        "The paper shows images and no numbers. The contrast is that of the test images around mid grey; an error "
        "that shrinks with it gains 6.02 dB at each halving.",
    ),
    "prediction": PaperTable(
        "Fig. B2: predict x₀ or the previous step",
        "16-128",
        (PaperRow("x0", 16), PaperRow("previous-step", 16, {"predicts": "previous"})),
        "The paper shows images and no numbers.",
    ),
    "stride": PaperTable(
        "Fig. B3: the stride",
        "32-512",
        (PaperRow("stride-16", 32), PaperRow("stride-1", 32, {"stride": 1})),
        "The paper shows images and no numbers.",
    ),
    "plus": PaperTable(
        "Ours: one change after the other, trained for the same time",
        "16-128",
        (
            PaperRow("bicubic", 16, use=BICUBIC),
            PaperRow("paper", 16),
            PaperRow("paper-projected", 16, use={"project": True}),
            PaperRow("learning-rate", 16, RATE, share=0.9),
            PaperRow("residual-l1", 16, {**RATE, "residual": True}, share=0.9),
            PaperRow("residual", 16, RESIDUAL, share=0.9),
            PaperRow("residual-one-call", 16, RESIDUAL, {"sampler": "one-call"}, share=0.9),
            PaperRow("residual-lpips", 16, {**RESIDUAL, "perceptual": 0.01}, share=0.88),
            PaperRow("sampled", 16, SAMPLED, share=0.84),
            PaperRow("sampled-one-call", 16, SAMPLED, {"sampler": "one-call"}, share=0.84),
            PaperRow("sampled-ensemble", 16, SAMPLED, {"ensemble": True}, share=0.84),
            PaperRow("plus", 16, SAMPLED, {"project": True}, share=0.84),
            PaperRow("plus-ensemble", 16, SAMPLED, {"project": True, "ensemble": True}, share=0.84),
        ),
        "plus is the recipe of the preset 16-128-plus with a warm-up of 40 steps, and --project. Steps are fewer "
        "where a step takes longer.",
    ),
    **THESIS_TABLES,
}
