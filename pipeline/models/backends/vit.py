"""Faster layers for ViT and similar networks; the last layer computes only what the class head
reads.

transformers computes every token in the last layer, but a class head reads only the first. The
others are needed there as keys and values, a sixth of a layer. With twelve layers that saves 7% of
the arithmetic. Keys and values are computed in one product here instead of two.

No config says which tokens are read. So the network is tested: if it still gives results (logits,
a vector) when all tokens but the first are NaN, it reads no other. A mean over patches then gives
none.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pipeline.models.backends.surgery import Read, alike, logits_of, replace

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

#: Layers of transformers with the same function: x += o(attention(norm(x))); x += mlp(norm(x)).
KIN: Final = frozenset({"ViTLayer", "DeiTLayer", "ViTMSNLayer"})
_TOKENS = 5


def slim(model: Any) -> None:
    """Replace the layers of KIN in a transformers classifier, in place.

    For unchanged weights: `quantise` comes after it. A layer that turns out to have
    another function or other parts, in a later transformers, stays as it is.
    """
    replace(model, _slimmer)


def trim(model: Any, pixels: "Tensor", read: Read | None = None) -> None:
    """Let the last such layer compute only the first token, if no other is read.

    `pixels` is any batch that the model accepts, (n, 3, H, W); `read` is what is read of the model,
    by default its logits. It is run once.
    """
    import torch

    layers: list[Any] = [module for module in model.modules() if isinstance(module, slim_layer())]
    if not layers:
        return
    last, read = layers[-1], read or logits_of(model)
    with torch.inference_mode(), last.register_forward_hook(_without_others):
        results = read(pixels)
    if all(bool(result.isfinite().all()) for result in results):
        last.tokens = 1


def _without_others(_: "Module", __: Any, result: "Tensor") -> "Tensor":
    result = result.clone()
    result[:, 1:] = float("nan")
    return result


def _slimmer(layer: Any) -> "Module | None":
    import torch

    if type(layer).__name__ not in KIN:
        return None
    try:
        slimmer: Module = slim_layer()(layer)
    except AttributeError:
        return None
    weight = layer.attention.q_proj.weight
    some = torch.randn(1, _TOKENS, weight.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        some = some.to(weight.device, weight.dtype)
        return slimmer if alike(slimmer(some), layer(some)) else None


def _side_by_side(*layers: "torch.nn.Linear") -> "torch.nn.Linear":
    """One linear layer with the outputs of all."""
    import torch

    first = layers[0]
    outputs = sum(layer.out_features for layer in layers)
    joined = torch.nn.Linear(first.in_features, outputs, bias=first.bias is not None, device="meta")
    joined.weight = torch.nn.Parameter(torch.cat([layer.weight for layer in layers]), False)
    if first.bias is not None:
        joined.bias = torch.nn.Parameter(torch.cat([layer.bias for layer in layers]), False)
    return joined


@lru_cache(maxsize=1)
def slim_layer() -> type:
    """The layer's type; torch is already imported at that point."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    class SlimLayer(torch.nn.Module):
        """(n, t, width) → (n, t, width), or (n, `tokens`, width) if only that many are read."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            attention = layer.attention
            self.heads, self.scaling = attention.num_attention_heads, attention.scaling
            self.layernorm_before = layer.layernorm_before
            self.layernorm_after = layer.layernorm_after
            self.q_proj, self.o_proj = attention.q_proj, attention.o_proj
            self.kv_proj = _side_by_side(attention.k_proj, attention.v_proj)
            self.fc1, self.fc2 = layer.mlp.fc1, layer.mlp.fc2
            self.activation_fn = layer.mlp.activation_fn
            self.tokens: int | None = None

        def forward(self, hidden: "Tensor", *_: Any, **__: Any) -> "Tensor":
            read = slice(self.tokens)
            mixed = self._attention(self.layernorm_before(hidden), read)
            hidden = self.o_proj(mixed) + hidden[:, read]
            inner = self.activation_fn(self.fc1(self.layernorm_after(hidden)))
            result: Tensor = self.fc2(inner) + hidden
            return result

        def _attention(self, normed: "Tensor", read: slice) -> "Tensor":
            query = self.q_proj(normed[:, read]).unflatten(2, (self.heads, -1)).transpose(1, 2)
            both = self.kv_proj(normed).unflatten(2, (2, self.heads, -1))
            key, value = both.permute(2, 0, 3, 1, 4)
            mixed = scaled_dot_product_attention(query, key, value, scale=self.scaling)
            return mixed.transpose(1, 2).flatten(2)

    return SlimLayer
