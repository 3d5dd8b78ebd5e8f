"""What data-parallel SGD moves: a factor model under DistributedDataParallel, dense and sparse; prints JSON.

    torchrun --standalone --nproc-per-node 2 benchmarks/ddp_sgd.py
"""
import json, time
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from mfbook.distributed import process_group
from mfbook.ratings import load_sample
from mfbook.training import batches

BATCH = 1024      # ratings of a step, on all ranks together
STEPS = 20        # that are timed

class Factors(nn.Module):
    "Rows [factors, bias] of users and items, as embeddings. Biases are left out of the prediction: only bytes matter."
    def __init__(self, ratings, k, sparse):
        super().__init__()
        self.of_users = nn.Embedding(ratings.n_users, k + 1, sparse=sparse)
        self.of_items = nn.Embedding(ratings.n_items, k + 1, sparse=sparse)

    def forward(self, users, items):
        return (self.of_users(users)*self.of_items(items)).sum(1)

def run(ratings, sparse, k=32):
    "Bytes that reach this rank in an epoch, as those of a ring of all-reduces or all-gathers, and its seconds."
    torch.manual_seed(0)
    size, rank = dist.get_world_size(), dist.get_rank()
    model = DistributedDataParallel(Factors(ratings, k, sparse))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    moved = []

    def count(state, bucket):
        moved.append(2*(size - 1)*bucket.buffer().nbytes/size)     # a ring reduces, and then gathers
        return allreduce_hook(None, bucket)
    if not sparse: model.register_comm_hook(None, count)       # hooks don't take sparse gradients

    own = ratings.take(torch.arange(len(ratings)) % size == rank)
    seconds = []
    for n, (users, items, values) in enumerate(batches(own, BATCH//size, seed=0)):
        if n == STEPS: break
        if sparse:                                             # codes of 8 bytes and rows, of every rank
            touched = len(users.unique()) + len(items.unique())
            moved.append((size - 1)*touched*(8 + 4*(k + 1)))
        start = time.perf_counter()
        loss = (model(users, items) - values).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    steps = len(ratings)/BATCH
    per_step = sum(moved)/STEPS
    return dict(exchanges=round(steps), megabytes=steps*per_step/1e6, seconds=steps*sorted(seconds)[len(seconds)//2])

if __name__ == '__main__':
    ratings = load_sample()
    with process_group():
        found = {f"DDP, {'sparse' if sparse else 'dense'}": run(ratings, sparse) for sparse in (False, True)}
        if dist.get_rank() == 0: print(json.dumps(found))
