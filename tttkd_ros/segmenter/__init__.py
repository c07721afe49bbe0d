import torch

if not torch.cuda.is_available():
    import spconv.core

    # While it is imported, spconv describes each of its CUDA kernels in Python, which takes seconds per process.
    spconv.core.ALL_IMPGEMM_PARAMS = spconv.core.ALL_NATIVE_PARAMS = []
