"""One vLLM engine in a process of its own, driven over pipes: `Engine` in the parent, main() in the child.

Used by the vllm_*.py beside it. What the child prints goes to a log file, since vLLM prints a lot; answers come as
JSON lines on a pipe. Invariant: the child counts the steps that were run by wrapping vLLM's Worker, or with several
ranks what sends them their steps, and never asks us how many there were.
"""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

QWEN3 = {
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960,
    "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768,
    "norm_topk_prob": True, "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": False, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False,
    "vocab_size": 151936}
FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
VOCABULARY = 150000
# Environments: vLLM as it is, and with the kernel or not at all.
STOCK = {"MOEOPT_MODE": "off", "VLLM_PLUGINS": ""}
OURS = {"MOEOPT_MODE": "require", "VLLM_PLUGINS": "moeopt"}
# What every engine here starts with; besides it those whose weights vLLM makes up; and the sizes of those that time.
START = {"dtype": "bfloat16", "enable_prefix_caching": False}
RANDOM_WEIGHTS = {"load_format": "dummy", "skip_tokenizer_init": True}
TIMED = RANDOM_WEIGHTS | {"max_model_len": 4096, "max_num_seqs": 512, "max_num_batched_tokens": 8192}


def side_by_side(make, names):
    """{name: make(name)}, all at once: engines take minutes to start, and none finds another's caches warm."""
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(make, names)))


def fp8_of(layers):
    """What a config says of fp8 weights; routers stay as they are, as in published checkpoints."""
    return FP8 | {"modules_to_not_convert": ["lm_head", *(f"model.layers.{n}.mlp.gate" for n in range(layers))]}


def model_folder(layers, dtype):
    """A folder with the config of Qwen3-30B-A3B, cut to so many layers; weights are made by vLLM."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qwen3-"))
    config = QWEN3 | {"num_hidden_layers": layers} | ({"quantization_config": fp8_of(layers)} if dtype == "fp8" else {})
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


class Engine:
    """A started engine. start: vLLM's arguments beside START; environment: added to ours."""

    def __init__(self, name, start, environment, log):
        self.name, self.log = name, log
        reader, writer = os.pipe()
        variables = os.environ | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
            "VLLM_USE_FLASHINFER_SAMPLER": "0", "PYTHONUNBUFFERED": "1", "MOEOPT_REPLY_FD": str(writer)} | environment
        with open(log, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=file,
                                            stderr=subprocess.STDOUT, pass_fds=(writer,), env=variables, text=True)
        os.close(writer)
        self.replies = os.fdopen(reader, encoding="utf-8")
        self.started = self.ask({"start": START | start})

    def ask(self, command):
        """The child's answer. Raises RuntimeError with the end of its log when it died or failed."""
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.replies.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait()
            raise RuntimeError(f"{self.name} died ({self.process.returncode}):\n{self.tail()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}\n{self.tail()}")
        return answer

    def generate(self, batch, prompt, new, seed=0, logprobs=None):
        return self.ask({"generate": [batch, prompt, new, seed, logprobs]})

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "\n".join(file.read().splitlines()[-25:])

    def stop(self):
        try:
            self.process.stdin.close()
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.replies.close()


class Child:
    def __init__(self, start):
        import vllm
        self.vllm, self.steps, self.ranks = vllm, 0, start.get("tensor_parallel_size", 1)
        if self.ranks > 1:
            from vllm.v1.executor.multiproc_executor import MultiprocExecutor as Runner
        else:
            from vllm.v1.worker.gpu_worker import Worker as Runner
        original = Runner.execute_model
        child = self

        def execute_model(self, scheduler_output, *arguments, **named):
            child.steps += scheduler_output.total_num_scheduled_tokens > 0
            return original(self, scheduler_output, *arguments, **named)

        Runner.execute_model = execute_model
        began = time.time()
        self.llm = vllm.LLM(**start)
        self.startup_s = time.time() - began

    def status(self):
        """The first rank's, with the number of ranks that counted the same; None of stock vLLM."""
        if self.ranks > 1 and os.environ["MOEOPT_MODE"] == "off":
            return None  # asked in vain, the ranks' answers would come for later questions
        try:
            ranks = self.llm.collective_rpc("moeopt_status")
        except Exception:  # stock vLLM's worker has no such method
            return None
        counts = {(rank["launches"], rank["applied"]) for rank in ranks}
        if len(counts) > 1:
            raise RuntimeError(f"ranks differ in launches and layers: {sorted(counts)}")
        return ranks[0] | {"ranks": len(ranks)}

    def about(self):
        import torch
        cache = getattr(self.llm.llm_engine.vllm_config, "cache_config", None)
        return {"startup_s": self.startup_s, "vllm": self.vllm.__version__, "gpu": torch.cuda.get_device_name(),
                "kv_tokens": (getattr(cache, "num_gpu_blocks", 0) or 0) * (getattr(cache, "block_size", 0) or 0),
                "status": self.status()}

    def memory(self):
        """What torch took from the device at most, GB."""
        import torch
        return {"reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
                "allocated_gb": torch.cuda.max_memory_allocated() / 1e9}

    def quality(self, folder, answers, text):
        """models/tiny-moe/README.md's two measures: {right: [bool], nll: [[mean, tokens] of each window]}."""
        import transformers
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        with open(answers, encoding="utf-8") as file:
            problems = [json.loads(line) for line in file]
        prompts = [tokenizer.apply_chat_template([{"role": "user", "content": p["question"]}], tokenize=True,
                                                 add_generation_prompt=True, return_dict=False) for p in problems]
        greedy = self.vllm.SamplingParams(temperature=0, max_tokens=200)
        outputs = self.llm.generate([{"prompt_token_ids": p} for p in prompts], greedy, use_tqdm=False)
        said = [tokenizer.decode(o.outputs[0].token_ids, skip_special_tokens=True) for o in outputs]
        right = [s.rsplit("####", 1)[-1].strip() == str(p["answer"]).strip() if "####" in s else False
                 for s, p in zip(said, problems)]
        with open(text, encoding="utf-8") as file:
            ids = tokenizer.encode(file.read(), add_special_tokens=False)
        windows = [w for w in (ids[at:at + 512] for at in range(0, len(ids), 512)) if len(w) > 1]
        scored = self.llm.generate([{"prompt_token_ids": w} for w in windows],
                                   self.vllm.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0),
                                   use_tqdm=False)
        nll = []
        for window, output in zip(windows, scored):
            values = [-step[token].logprob for step, token in zip(output.prompt_logprobs[1:], window[1:])]
            nll.append([sum(values) / len(values), len(values)])
        return {"right": right, "nll": nll}

    def profile(self, batch, prompt, new):
        """Kernels of one generate(), after one that is not counted: [[name, calls, microseconds], ...]."""
        import torch
        self.generate(batch, prompt, new, 1, None)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            answer = self.generate(batch, prompt, new, 2, None)
            torch.cuda.synchronize()
        rows = {}
        for event in profiler.events():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                calls, us = rows.get(event.name, (0, 0.0))
                rows[event.name] = (calls + 1, us + event.time_range.elapsed_us())
        return {"steps": answer["steps"], "kernels": [[name, *of] for name, of in rows.items()]}

    def stop(self):
        """Shuts the engine down as vLLM does, so that a routing log is whole; the status until then."""
        last = self.status()
        if self.llm.llm_engine.engine_core.__class__.__name__ == "InprocClient":
            self.llm.llm_engine.engine_core.get_output()  # tells the worker which requests ended last
        self.llm.llm_engine.engine_core.shutdown()
        return {"status": last}

    def generate(self, batch, prompt, new, seed, logprobs):
        import random
        choose = random.Random(seed)
        prompts = [{"prompt_token_ids": [choose.randrange(VOCABULARY) for _ in range(prompt)]} for _ in range(batch)]
        how = self.vllm.SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False,
                                       logprobs=logprobs)
        before, steps = self.status(), self.steps
        began = time.perf_counter()
        outputs = self.llm.generate(prompts, how, use_tqdm=False)
        seconds = time.perf_counter() - began
        after = self.status()
        answer = {"seconds": seconds, "steps": self.steps - steps, "launches": 0, "layers": 0,
                  "tokens": [list(o.outputs[0].token_ids) for o in outputs]}
        if before is not None and after is not None:
            answer |= {"launches": after["launches"] - before["launches"], "layers": after["applied"]}
        if logprobs is not None:
            answer["logprobs"] = [[repr(step[token].logprob) for step, token in
                                   zip(o.outputs[0].logprobs, o.outputs[0].token_ids)] for o in outputs]
        return answer


def main():
    reply = os.fdopen(int(os.environ["MOEOPT_REPLY_FD"]), "w", encoding="utf-8")
    child = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "start" in command:
                child = Child(command["start"])
                answer = child.about()
            elif "memory" in command:
                answer = child.memory()
            elif "quality" in command:
                answer = child.quality(*command["quality"]) | {"status": child.status()}
            elif "profile" in command:
                answer = child.profile(*command["profile"])
            elif "stop" in command:
                answer = child.stop()
            else:
                answer = child.generate(*command["generate"])
        except Exception as problem:
            import traceback
            traceback.print_exc()
            answer = {"error": f"{type(problem).__name__}: {problem}"[:400]}
        reply.write(json.dumps(answer) + "\n")
        reply.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
