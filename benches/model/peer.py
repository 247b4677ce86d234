"""Takes training steps in PyTorch: the peer of burn_model/examples/step_time.rs, with the same protocol.

python peer.py LYNX_REF SHAPE MODE STEPS THREADS [DEVICE [BATCH [PRECISION]]]

DEVICE is PyTorch's name of it, such as cuda:0. In bf16 and f16, the model runs under torch.autocast.
"""

import importlib.util
import json
import resource
import sys
import time

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
PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def reference(path):
    """The module lynx_ref.py."""
    spec = importlib.util.spec_from_file_location("lynx_ref", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["lynx_ref"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def main():
    path, shape, mode, steps, threads, *rest = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    lynx_ref = reference(path)
    sizes, batch_size, tokens = SHAPES[shape]
    device = rest[0] if rest else "cpu"
    batch_size = int(rest[1]) if len(rest) > 1 else batch_size
    precision = PRECISIONS[rest[2] if len(rest) > 2 else "f32"]
    config = lynx_ref.Cfg(**sizes)
    batch = [tensor.to(device) for tensor in lynx_ref.make_batch(config, batch_size, tokens)]
    if device != "cpu":
        # TF32, in which burn's CUDA backend multiplies as well.
        torch.set_float32_matmul_precision("high")
    torch.set_default_device(device)  # the reference makes its masks on the default device
    model = lynx_ref.Lynx(config)
    model.set_train_mode(MODES[mode])
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.05, fused=True)

    def step():
        with torch.autocast(torch.device(device).type, precision, enabled=precision != torch.float32):
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
        begin, user = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for _ in range(int(steps)):
            loss = step()
        last = loss.item()  # on a GPU, waits for all steps
        end = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_utime - user
        seconds, user_seconds = (all_steps / int(steps) for all_steps in end)
        print(json.dumps({"seconds": seconds, "user_seconds": user_seconds, "loss": last}), flush=True)


if __name__ == "__main__":
    main()
