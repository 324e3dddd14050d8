import torch
from hypothesis import settings

# Small tensors on shared cores: a second thread waits more than it works.
torch.set_num_threads(1)

# A slow machine is no bug, and a failure has to come again.
settings.register_profile("fedsim", deadline=None, derandomize=True)
settings.load_profile("fedsim")
