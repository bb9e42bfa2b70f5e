#!/usr/bin/env python3
"""Makes tests/golden/: tiny random checkpoints and what Transformers computes from them.

    tools/goldens/make.py [CASE...]            writes tests/golden/CASE/
    tools/goldens/make.py --check [CASE...]    recomputes from the committed checkpoints, compares
    tools/goldens/make.py --hidden DIR [CASE]  also each layer's output, for finding a first mistake

Each folder holds config.json and safetensors as a hub checkpoint has them, that config as
Transformers 5 saves it (config.transformers5.json), logits.npy (float32,
[prompt, vocab], every prompt position) and golden.json: prompt ids, 16 greedy ids after the prompt
(an end-of-text id would not stop them), rotary and softmax constants as Transformers has them, and
per layer the expert ids (ascending) and weights of every prompt position (null: dense layer).
Transformers runs in float32 from the stored weights; fp8 weights are e4m3 times their block's scale,
exactly, and activations are not quantised.

A seed is taken when nothing hangs on a rounding: choices of experts and of greedy ids keep a margin.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cases import CASES, Case  # noqa: E402

N_GREEDY = 16
BLOCK = 128
MIN_ROUTE_MARGIN = 0.01  # of router logits, last chosen to first not chosen, in the prompt
MIN_LATER_MARGIN = 1e-3  # the same while the greedy ids are found
MIN_LOGIT_MARGIN = 0.03
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"


def randomise(model, generator):
    """Weights that keep activations near 1 and give the router clear preferences."""
    tied = model.config.tie_word_embeddings
    for name, parameter in list(model.named_parameters()) + list(model.named_buffers()):
        if "inv_freq" in name:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 1 + 0.2 * noise
        elif "e_score_correction_bias" in name:
            value = 0.2 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif "embed_tokens" in name:
            value = noise * (0.15 if tied else 1.0)  # else a token predicts itself for ever
        elif name.endswith("gate.weight") or name.endswith("shared_expert_gate.weight"):
            value = noise * 2.0 / parameter.shape[-1] ** 0.5
        else:
            value = noise * 1.2 / parameter.shape[-1] ** 0.5
        parameter.data.copy_(value)


def hub_tensors(model, folder):
    """The model's tensors under the names that hub checkpoints have: one per expert, unfused."""
    model.save_pretrained(folder)
    tensors = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def quantised_names(case: Case, tensors):
    if not case.fp8:
        return set()
    kept = case.config["quantization_config"].get("modules_to_not_convert", [])
    return {
        name
        for name, tensor in tensors.items()
        if tensor.dim() == 2
        and name.startswith("model.layers.")
        and not name.endswith(".gate.weight")
        and name.removesuffix(".weight") not in kept
    }


def quantise(weight, scale_dtype):
    """e4m3 values and one scale per 128x128 block, edges rounded up."""
    rows, columns = (-(-extent // BLOCK) for extent in weight.shape)
    scales = torch.zeros(rows, columns, dtype=scale_dtype)
    stored = torch.zeros(weight.shape, dtype=torch.float8_e4m3fn)
    for r in range(rows):
        for c in range(columns):
            place = np.s_[r * BLOCK : (r + 1) * BLOCK, c * BLOCK : (c + 1) * BLOCK]
            scales[r, c] = weight[place].abs().max() / 448
            stored[place] = (weight[place] / scales[r, c].float()).to(torch.float8_e4m3fn)
    return stored, scales


def dequantise(stored, scales):
    spread = scales.float().repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return stored.float() * spread[: stored.shape[0], : stored.shape[1]]


def stored_tensors(case: Case, tensors, generator):
    """As a checkpoint stores them: bf16, fp8 with scales, the correction bias in float32."""
    out = {}
    scale_dtype = torch.bfloat16 if case.bf16_scales else torch.float32
    quantised = quantised_names(case, tensors)
    for name, tensor in tensors.items():
        if name in quantised:
            out[name], out[name + "_scale_inv"] = quantise(tensor, scale_dtype)
        elif "e_score_correction_bias" in name:
            out[name] = tensor.float()
        else:
            out[name] = tensor.to(torch.bfloat16)
    if case.mtp:
        hidden = case.config["hidden_size"]
        layer = f"model.layers.{case.config['num_hidden_layers']}."
        for name, shape in {
            "enorm.weight": [hidden],
            "hnorm.weight": [hidden],
            "eh_proj.weight": [hidden, 2 * hidden],
            "shared_head.norm.weight": [hidden],
        }.items():
            out[layer + name] = torch.randn(shape, generator=generator).to(torch.bfloat16)
    return {name: tensor.contiguous() for name, tensor in sorted(out.items())}


def write_checkpoint(case: Case, tensors, folder: pathlib.Path):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model*.safetensors*"):
        old.unlink()
    (folder / "config.json").write_text(json.dumps(case.config, indent=2) + "\n")
    if case.shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for shard in range(case.shards):
        file = f"model-{shard + 1:05}-of-{case.shards:05}.safetensors"
        mine = names[shard :: case.shards]
        save_file({name: tensors[name] for name in mine}, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in mine}
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def save_config(case: Case, folder: pathlib.Path):
    """The same config as Transformers itself spells it today, which readers must take for the same."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as temporary:
        config.save_pretrained(temporary)
        saved = json.loads((pathlib.Path(temporary) / "config.json").read_text())
    saved.pop("transformers_version")
    (folder / "config.transformers5.json").write_text(json.dumps(saved, indent=2) + "\n")


def load_in_float32(folder: pathlib.Path):
    """The checkpoint in Transformers, every weight widened exactly to float32."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    wide = {}
    for name, tensor in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        scales = tensors.get(name + "_scale_inv")
        wide[name] = tensor.float() if scales is None else dequantise(tensor, scales)
    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary)
        (path / "config.json").write_text(json.dumps(config))
        save_file(wide, path / "model.safetensors", metadata={"format": "pt"})
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            attn_implementation="eager",
            experts_implementation="eager",
            output_loading_info=True,
        )
    assert not info["missing_keys"], info
    mtp = f"model.layers.{config['num_hidden_layers']}."
    assert all(name.startswith(mtp) for name in info["unexpected_keys"]), info
    return model.eval()


class Recorder:
    """What each MoE layer's router chose, and by what margin."""

    def __init__(self, model):
        self.layers = model.model.layers
        self.routing = [None] * len(self.layers)
        self.margin = float("inf")
        for i, layer in enumerate(self.layers):
            mlp = layer.mlp
            if hasattr(mlp, "gate"):
                mlp.gate.register_forward_hook(lambda gate, _, out, i=i: self._record(i, gate, out))

    def _record(self, i, gate, out):
        logits, weights, ids = (tensor.detach() for tensor in out)
        order = ids.argsort(-1)
        self.routing[i] = (ids.gather(-1, order), weights.gather(-1, order))
        self.margin = min(self.margin, self._margin(gate, logits.float(), ids))

    @staticmethod
    def _margin(gate, logits, ids):
        bias = getattr(gate, "e_score_correction_bias", None)
        # Softmax keeps the order of the logits, and their differences are what a rounding moves.
        scores = logits if bias is None else 4 * (logits.sigmoid() + bias)
        margins = []
        groups = getattr(gate, "num_group", None) or 1
        if groups > 1 and getattr(gate, "topk_method", "") != "greedy":
            grouped = scores.view(len(scores), groups, -1)
            best = grouped.max(-1).values if bias is None else grouped.topk(2, -1)[0].sum(-1)
            ranked = best.sort(-1, descending=True)
            margins.append((ranked[0][:, gate.topk_group - 1] - ranked[0][:, gate.topk_group]).min())
            allowed = torch.zeros_like(best).scatter_(1, ranked[1][:, : gate.topk_group], 1.0)
            allowed = allowed.bool()[:, :, None].expand_as(grouped).reshape(scores.shape)
            scores = scores.masked_fill(~allowed, float("-inf"))
        chosen = torch.zeros_like(scores).scatter_(1, ids, 1.0).bool()
        last = scores.masked_fill(~chosen, float("inf")).amin(-1)
        next_best = scores.masked_fill(chosen, float("-inf")).amax(-1)
        margins.append((last - next_best).min())
        return float(min(margins))


@torch.no_grad()
def run(model, prompt):
    """logits, routing, greedy ids; and the margins that they hang on."""
    recorder = Recorder(model)
    out = model(torch.tensor([prompt]), use_cache=False, output_hidden_states=True)
    logits, routing = out.logits[0], list(recorder.routing)
    hidden = torch.stack(out.hidden_states)[:, 0]
    route_margin = recorder.margin
    ids = list(prompt)
    logit_margin = float("inf")
    if route_margin < MIN_ROUTE_MARGIN:
        return logits, routing, ids, hidden, route_margin, 0.0
    for _ in range(N_GREEDY):
        last = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        best = last.topk(2)
        logit_margin = min(logit_margin, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    greedy = ids[len(prompt) :]
    generated = model.generate(
        torch.tensor([prompt]), max_new_tokens=N_GREEDY, do_sample=False, eos_token_id=None
    )
    assert generated[0, len(prompt) :].tolist() == greedy, "the cache changed Transformers' answer"
    eos = model.config.eos_token_id
    if recorder.margin < MIN_LATER_MARGIN or eos in greedy or len(set(greedy)) < 8:
        logit_margin = 0.0
    return logits, routing, greedy, hidden, route_margin, logit_margin


def attention_constants(model):
    rotary = model.model.rotary_emb
    return {
        "inverse_frequencies": [float(f"{f:.8g}") for f in rotary.inv_freq.tolist()],
        "magnitude": float(rotary.attention_scaling),
        "softmax_scale": float(model.model.layers[0].self_attn.scaling),
    }


def golden_json(case: Case, seed, model, prompt, routing, greedy, margins):
    layers = []
    for layer in routing:
        if layer is None:
            layers.append(None)
            continue
        ids, weights = layer
        rounded = [[round(float(w), 7) for w in row] for row in weights]
        layers.append({"experts": ids.tolist(), "weights": rounded})
    return {
        "case": case.name,
        "made_with": {
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
            "seed": seed,
        },
        "route_margin": round(margins[0], 6),
        "logit_margin": round(margins[1], 6),
        "attention": attention_constants(model),
        "prompt": prompt,
        "greedy": greedy,
        "routing": layers,
    }


def dump(golden):
    """JSON with one line per field, and per layer of the routing."""
    lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items() if k != "routing"]
    layers = ",\n".join(f"  {json.dumps(layer)}" for layer in golden["routing"])
    return "{\n" + ",\n".join([*lines, f' "routing": [\n{layers}\n ]']) + "\n}\n"


def make(case: Case, hidden_folder):
    folder = GOLDEN / case.name
    for seed in range(1, 400):
        generator = torch.Generator().manual_seed(seed)
        with tempfile.TemporaryDirectory() as temporary:
            config_folder = pathlib.Path(temporary)
            plain = {k: v for k, v in case.config.items() if k != "quantization_config"}
            (config_folder / "config.json").write_text(json.dumps(plain))
            config = transformers.AutoConfig.from_pretrained(config_folder)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            randomise(model, generator)
            tensors = hub_tensors(model, config_folder / "saved")
        tensors = stored_tensors(case, tensors, generator)
        prompt = torch.randint(
            3, case.config["vocab_size"], (case.n_prompt,), generator=generator
        ).tolist()
        write_checkpoint(case, tensors, folder)
        save_config(case, folder)
        model = load_in_float32(folder)
        logits, routing, greedy, hidden, route_margin, logit_margin = run(model, prompt)
        if route_margin >= MIN_ROUTE_MARGIN and logit_margin >= MIN_LOGIT_MARGIN:
            break
    else:
        sys.exit(f"{case.name}: no seed keeps the margins")
    np.save(folder / "logits.npy", logits.numpy().astype(np.float32))
    golden = golden_json(case, seed, model, prompt, routing, greedy, (route_margin, logit_margin))
    (folder / "golden.json").write_text(dump(golden))
    for file in folder.iterdir():
        file.chmod(0o644)
    if hidden_folder:
        np.save(hidden_folder / f"{case.name}.npy", hidden.numpy())
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(
        f"{case.name}: seed {seed}, logits rms {logits.pow(2).mean().sqrt():.2f}, margins "
        f"{route_margin:.4f} {logit_margin:.3f}, distinct greedy {len(set(greedy))}, {size:,} bytes"
    )


def check(case: Case, hidden_folder):
    folder = GOLDEN / case.name
    golden = json.loads((folder / "golden.json").read_text())
    logits, routing, greedy, hidden, *_ = run(load_in_float32(folder), golden["prompt"])
    stored = torch.from_numpy(np.load(folder / "logits.npy"))
    error = float((logits - stored).abs().max() / stored.abs().max())
    same = all(
        (layer is None) == (want is None) and (layer is None or layer[0].tolist() == want["experts"])
        for layer, want in zip(routing, golden["routing"], strict=True)
    )
    if hidden_folder:
        np.save(hidden_folder / f"{case.name}.npy", hidden.numpy())
    good = error < 1e-5 and same and greedy == golden["greedy"]
    print(f"{case.name}: {'equal' if good else 'DIFFERS'} (logits within {error:.1e})")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--hidden", type=pathlib.Path, metavar="DIR")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    unknown = set(args.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    chosen = [case for case in CASES if not args.cases or case.name in args.cases]
    if args.check:
        sys.exit(not all([check(case, args.hidden) for case in chosen]))
    for case in chosen:
        make(case, args.hidden)


if __name__ == "__main__":
    main()
