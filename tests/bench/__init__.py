"""The benchmark: the paper's sampler and a plain training loop against ours, side by side in one run.

    python -m tests.bench.engine --quick                                          # tiny networks, seconds
    python -m tests.bench.engine --json engine.json                               # this machine's CPU
    python -m tests.bench.engine --device cuda --compile --profile --json FILE    # a GPU, in less than ten minutes
    python -m tests.bench.engine --device cuda --compile --checkpoint FOLDER      # with trained weights

Run it from the repository's root. Measuring needs torch alone (and safetensors and huggingface_hub for a checkpoint);
without lightning_fabric, training is measured in a loop that does the same, and the output says so. Rows appear as
they are measured and the JSON is written after each, so a run that is stopped has not measured for nothing.
`sharding` is another program: `python -m tests.bench.sharding --scratch FOLDER`, with its `sharding_subjects`.
`upscaling` is the third, `python -m tests.bench.upscaling --scratch FOLDER`: `upscaling_subjects`, `codecs`, `ncnn`.
`side_by_side` is what these two share.
`engine` is the first, `subjects` what is measured, `measure` and `kinds` how, `plain` the network of the baseline.
"""
