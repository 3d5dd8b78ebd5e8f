"""The model on another device: `fit_sgd(..., device='cuda')` and `predict(..., device='cuda')`.

Where there is no GPU, torch's `meta` device stands in. Its tensors have shapes and no numbers, and it refuses what mixes
devices; `Numbers` makes some up where they are asked for.
"""
import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization, on_device
from mfbook.ratings import load_sample
from mfbook.runs import fit_sgd
from mfbook.training import adam, closed_form, sgd

pytestmark = pytest.mark.usefixtures('one_thread')
no_gpu = not torch.cuda.is_available()

class Numbers(TorchFunctionMode):
    "Within it a tensor on `meta` can leave it, as ones; `here` collects on which devices batches were multiplied."
    def __init__(self):
        super().__init__()
        self.here = set()

    def __torch_function__(self, f, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        first = args[0] if args else None
        if torch.is_tensor(first) and first.is_meta:
            if f is torch.Tensor.item: return True if first.dtype == torch.bool else 1.
            if f is torch.Tensor.__bool__: return True
            if f is torch.Tensor.cpu: return torch.ones(first.shape, dtype=first.dtype, device='cpu')
            if f is torch.Tensor.to and 'cpu' in map(str, args[1:]):
                return torch.ones(first.shape, dtype=first.dtype, device='cpu')
        if getattr(f, '__name__', '') == 'index_select': self.here.add(first.device.type)
        return f(*args, **kwargs)

@pytest.fixture(scope='module')
def split(): return split_random(load_sample(), seed=0)

@pytest.mark.parametrize('update', [adam, closed_form])      # fused SGD has no kernel for meta
def test_every_tensor_of_a_fit_is_on_the_device(split, update, monkeypatch):
    # A fused step checks the name of the device before the tensors.
    base = sys.modules['torch.optim.optimizer']
    monkeypatch.setattr(base, '_get_fused_kernels_supported_devices', lambda: ['meta'])
    train, valid = split.train.take(slice(0, 3000)), split.valid.take(slice(0, 300))
    model = MatrixFactorization(train, k=4)
    with Numbers() as numbers:
        history = fit_sgd(model, train, valid, epochs=2, batch_size=1000, update=update, device='meta', progress=False)
    assert numbers.here == {'meta'}
    assert len(history.rows) == 2
    assert model.device.type == 'cpu'

def test_every_tensor_of_a_prediction_is_on_the_device(split):
    model = MatrixFactorization(split.train, k=4)
    with Numbers() as numbers:
        predicted = model.predict(split.test, device='meta')
        table = split.test.to_frame().head(5).assign(userId=lambda frame: [-1, *frame.userId[1:]])
        of_table = model.predict(table, device='meta')
    assert numbers.here == {'meta'}
    assert predicted.device.type == 'cpu' and len(predicted) == len(split.test)
    assert len(of_table) == 5
    assert model.device.type == 'cpu'

def test_the_stand_in_refuses_what_mixes_devices():
    with Numbers(), pytest.raises(RuntimeError, match='device'):
        torch.ones(3, device='meta').index_select(0, torch.zeros(2, dtype=torch.long, device='cpu')) + torch.ones(2)

def test_the_model_comes_home_from_a_fit_that_fails(split):
    model = MatrixFactorization(split.train, k=4)
    with Numbers(), pytest.raises(ZeroDivisionError), on_device(model, 'meta'):
        assert model.device.type == 'meta'
        1/0
    assert model.device.type == 'cpu'

@pytest.mark.skipif(not no_gpu, reason='there is a GPU')
def test_a_device_that_is_not_there(split):
    model = MatrixFactorization(split.train, k=4)
    with pytest.raises(ValueError, match="'cuda' can't be used here: .* Leave it out"):
        fit_sgd(model, split.train, epochs=1, device='cuda')
    with pytest.raises(ValueError, match="'cuda' can't be used here"):
        model.predict(split.test, device='cuda')
    assert model.device.type == 'cpu'

@pytest.mark.skipif(no_gpu, reason='there is no GPU')
@pytest.mark.parametrize('update', [adam, sgd, closed_form])
def test_a_gpu_ends_where_the_cpu_does(split, update):
    errors = []
    for device in (None, 'cuda'):
        model = MatrixFactorization(split.train, k=16)
        fit_sgd(model, split.train, split.valid, epochs=5, update=update, device=device, progress=False)
        assert model.device.type == 'cpu'
        errors.append(rmse(model.predict(split.test, device=device), split.test))
    assert errors[0] == pytest.approx(errors[1], abs=2e-3)
