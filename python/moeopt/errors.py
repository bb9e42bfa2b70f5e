"""What moeopt raises. Every message names the field or tensor that is at fault and what would be right."""


class MoeoptError(RuntimeError):
    """Base of all errors of this package."""


class ArgumentError(MoeoptError, ValueError):
    """A tensor or a value that no layer of this kind takes: dtype, device, shape, alignment, a missing pointer."""


class Unsupported(MoeoptError):
    """A shape, dtype or device beyond the kernel's limits; the message names the limit."""


class CudaError(MoeoptError):
    """A CUDA call failed; the message carries CUDA's."""


class NotApplied(MoeoptError):
    """MOEOPT_MODE=require, and the kernel would not be used; the message says why."""
