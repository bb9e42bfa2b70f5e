"""How the kernel gets into vLLM: contract.py probes what vLLM offers, experts.py is the experts class,
install.py patches and audits. Loaded by vllm_plugin.register() alone."""
