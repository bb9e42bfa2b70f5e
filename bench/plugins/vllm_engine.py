"""One vLLM engine in a process of its own, driven over pipes: `Engine` in the parent, main() in the child.

Used by vllm_speed.py and vllm_proof.py. What the child prints goes to a log file, since vLLM prints a lot;
answers come as JSON lines on a pipe. Invariant: the child counts the steps that its worker ran by wrapping
vLLM's Worker, and never asks us how many there were.
"""

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


def model_folder(layers, dtype):
    """A folder with the config of Qwen3-30B-A3B, cut to so many layers; weights are made by vLLM."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qwen3-"))
    config = QWEN3 | {"num_hidden_layers": layers} | ({"quantization_config": FP8} if dtype == "fp8" else {})
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


class Engine:
    """A started engine. start: vLLM's arguments; environment: added to ours."""

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
        self.started = self.ask({"start": start})

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
        from vllm.v1.worker.gpu_worker import Worker
        self.vllm, self.steps = vllm, 0
        original = Worker.execute_model
        child = self

        def execute_model(self, scheduler_output, *arguments, **named):
            child.steps += scheduler_output.total_num_scheduled_tokens > 0
            return original(self, scheduler_output, *arguments, **named)

        Worker.execute_model = execute_model
        began = time.time()
        self.llm = vllm.LLM(**start)
        self.startup_s = time.time() - began

    def status(self):
        try:
            return self.llm.collective_rpc("moeopt_status")[0]
        except Exception:  # stock vLLM's worker has no such method
            return None

    def about(self):
        import torch
        cache = getattr(self.llm.llm_engine.vllm_config, "cache_config", None)
        return {"startup_s": self.startup_s, "vllm": self.vllm.__version__, "gpu": torch.cuda.get_device_name(),
                "kv_tokens": (getattr(cache, "num_gpu_blocks", 0) or 0) * (getattr(cache, "block_size", 0) or 0),
                "status": self.status()}

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
