import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from causaldrive.sft.attention import MatmulAttention


def inputs(key_heads: int = 4):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 9, 32), (2, key_heads, 9, 32), (2, key_heads, 9, 32))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


SEEN = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(1)) > 0.4
SEEN[..., 0] = True  # no row without anything to see
HIDDEN = torch.zeros(2, 1, 9, 9).masked_fill(~SEEN, torch.finfo(torch.float32).min)


@pytest.mark.parametrize(
    ("options", "key_heads"),
    [({}, 4), ({"is_causal": True}, 4), ({"attn_mask": SEEN}, 4), ({"attn_mask": HIDDEN, "scale": 0.1}, 4),
     ({"is_causal": True, "enable_gqa": True}, 2)],
)  # fmt: skip
def test_values_and_gradients_agree_with_pytorch(options, key_heads):
    found = []
    for mode in (torch.no_grad, MatmulAttention):
        q, k, v = inputs(key_heads)
        with mode(), torch.enable_grad():
            out = scaled_dot_product_attention(q, k, v, **options)
        out.float().square().sum().backward()
        found.append([out.detach().float(), *(x.grad for x in (q, k, v))])
    for expected, got in zip(*found, strict=True):
        assert torch.linalg.norm(got - expected) < 0.02 * torch.linalg.norm(expected)  # bfloat16 has 8 bits


def test_without_gradient_pytorch_does_it():
    q, k, v = inputs()
    with torch.no_grad(), MatmulAttention():
        assert torch.equal(scaled_dot_product_attention(q, k, v), scaled_dot_product_attention(q, k, v))
        assert scaled_dot_product_attention(q, k, v).dtype == torch.float32
