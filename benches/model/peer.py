"""Takes training steps in PyTorch: the peer of burn_model/examples/step_time.rs, with the same protocol.

python peer.py LYNX_REF SHAPE MODE STEPS THREADS
"""

import importlib.util
import json
import resource
import sys

import torch

WARM_UP = 3

# Sizes as in step_time.rs, in the names of lynx_ref.py.
SHAPES = {
    "tiny": (
        dict(image=32, vit_dim=64, vit_depth=2, vit_heads=2, latents=8, bridge_depth=2, bridge_heads=2, bridge_dim_head=32,
             dim=96, depth=3, heads=3, inter=256, vocab=64, max_pos=64),
        32, 16,
    ),
    "middle": ({}, 16, 64),
}  # fmt: skip
MODES = {"full": "full", "frozen": "lynx"}


def reference(path):
    """The module lynx_ref.py."""
    spec = importlib.util.spec_from_file_location("lynx_ref", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["lynx_ref"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def main():
    path, shape, mode, steps, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    lynx_ref = reference(path)
    sizes, batch_size, tokens = SHAPES[shape]
    config = lynx_ref.Cfg(**sizes)
    model = lynx_ref.Lynx(config)
    model.set_train_mode(MODES[mode])
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.05, fused=True)
    batch = lynx_ref.make_batch(config, batch_size, tokens)

    def step():
        _, loss = model(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for _ in range(int(steps)):
            loss = step()
        end = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        print(json.dumps({"user_seconds": (end - begin) / int(steps), "loss": loss.item()}), flush=True)


if __name__ == "__main__":
    main()
