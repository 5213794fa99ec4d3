import torch

# The networks here are tiny: a second thread costs more than it brings, and on a busy machine each
# of its barriers waits for whoever has the other core.
torch.set_num_threads(1)
