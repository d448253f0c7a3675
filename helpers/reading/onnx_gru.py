"""A GRU as ONNX spells it, since not every torch (2.14) can export one with a free number of steps."""

import copy

import torch
from torch import Tensor, nn


class OnnxGRU(nn.Module):
    """Stands for a bidirectional nn.GRU with batch_first during an export; outside of one its output means nothing.

    Source: the operator GRU, https://onnx.ai/onnx/operators/onnx__GRU.html; its gates are update, reset, hidden where
    PyTorch's are reset, update, hidden.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.hidden_size = gru.hidden_size
        self.layers = nn.ModuleList()
        for layer in range(gru.num_layers):
            tensors = nn.ParameterList()
            for kinds in (["weight_ih"], ["weight_hh"], ["bias_ih", "bias_hh"]):
                ways = [[getattr(gru, f"{kind}_l{layer}{way}") for kind in kinds] for way in ("", "_reverse")]
                tensors.append(torch.stack([torch.cat([_gates(tensor) for tensor in way]) for way in ways]).detach())
            self.layers.append(tensors)

    def forward(self, columns: Tensor) -> tuple[Tensor, None]:
        """(B, T, C) to (B, T, 2 * hidden_size); no last state."""
        steps = columns.transpose(0, 1)
        attributes = {"hidden_size": self.hidden_size, "direction": "bidirectional", "linear_before_reset": 1}
        for tensors in self.layers:
            shape = (steps.shape[0], 2, steps.shape[1], self.hidden_size)
            both = torch.onnx.ops.symbolic(
                "GRU", (steps, *tensors), attributes, dtype=steps.dtype, shape=shape, version=14
            )
            steps = both.transpose(1, 2).flatten(2)
        return steps.transpose(0, 1), None


def for_onnx(network: nn.Module) -> nn.Module:
    """A copy of the network with its GRUs as ONNX has them."""
    network = copy.deepcopy(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.GRU):
            if not (module.bidirectional and module.batch_first and module.bias):
                raise ValueError(
                    f"{name}: a GRU is exported that is bidirectional, has biases and takes the batch first"
                )
            network.set_submodule(name, OnnxGRU(module))
    return network


def _gates(tensor: Tensor) -> Tensor:
    reset, update, hidden = tensor.chunk(3)
    return torch.cat([update, reset, hidden])
