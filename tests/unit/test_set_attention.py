"""Set attention against the textbook's equations, one row, one head and one token at a time."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.set_attention import Attention, Block, Excitation, Patterns, PatternsRead, TokensRead

ROWS, TOKENS, PATTERNS, DIM = 3, 5, 4, 8
HEADS = pytest.mark.parametrize("num_heads", [1, 2, 4])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def tokens() -> Tensor:
    return torch.randn(ROWS, TOKENS, DIM)


def with_random_weights(module: nn.Module) -> None:
    """Draw scales, shifts and biases too: they start as 1 and 0, which would hide where they act."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


def attend(attention: Attention, x_D: Tensor, ys: Sequence[Tensor]) -> Tensor:
    """Run multi-head attention of one query over the elements of one set."""
    out_D: Tensor = attention.out_D
    _, num_heads, width = attention.query_DKA.shape
    for k in range(num_heads):
        q_A = x_D @ attention.query_DKA[:, k] + attention.query_KA[k]
        exponentials = [torch.exp(q_A @ (y_D @ attention.key_DKA[:, k]) / math.sqrt(width)) for y_D in ys]
        total = torch.stack(exponentials).sum()
        for share, y_D in zip(exponentials, ys, strict=True):
            out_D = out_D + share / total * (y_D @ attention.value_DKA[:, k] @ attention.out_KAD[k])
    return out_D


def layer_norm(norm: nn.Module, x_D: Tensor) -> Tensor:
    assert isinstance(norm, nn.LayerNorm)
    deviation = x_D - x_D.mean()
    return deviation / (deviation.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def mab(block: Block, x_D: Tensor, ys: Sequence[Tensor]) -> Tensor:
    """Run MAB(X, Y) for one element of X."""
    z_D = layer_norm(block.first_norm, x_D + attend(block.attention, x_D, ys))
    return layer_norm(block.last_norm, z_D + torch.relu(block.linear(z_D)))


@HEADS
def test_patterns_read_tokens_by_the_textbooks_attention(num_heads: int) -> None:
    attention = PatternsRead(DIM, num_heads)
    with_random_weights(attention)
    query_MD, token_BND = torch.randn(PATTERNS, DIM), tokens()
    read_BMD = attention(query_MD, token_BND)
    assert read_BMD.shape == (ROWS, PATTERNS, DIM)
    for b in range(ROWS):
        for m in range(PATTERNS):
            torch.testing.assert_close(read_BMD[b, m], attend(attention, query_MD[m], list(token_BND[b])))


@HEADS
def test_tokens_read_patterns_by_the_textbooks_attention(num_heads: int) -> None:
    attention = TokensRead(DIM, num_heads)
    with_random_weights(attention)
    token_BND, pattern_BMD = tokens(), torch.randn(ROWS, PATTERNS, DIM)
    read_BND = attention(token_BND, pattern_BMD)
    assert read_BND.shape == (ROWS, TOKENS, DIM)
    for b in range(ROWS):
        for n in range(TOKENS):
            torch.testing.assert_close(read_BND[b, n], attend(attention, token_BND[b, n], list(pattern_BMD[b])))


def test_a_block_is_attention_and_a_linear_map_each_added_and_normalised() -> None:
    block = Block(TokensRead(DIM, 2), DIM)
    with_random_weights(block)
    token_BND, pattern_BMD = tokens(), torch.randn(ROWS, PATTERNS, DIM)
    out_BND = block(token_BND, pattern_BMD)
    for b in range(ROWS):
        for n in range(TOKENS):
            torch.testing.assert_close(out_BND[b, n], mab(block, token_BND[b, n], list(pattern_BMD[b])))


def test_patterns_are_the_inducing_vectors_block_then_excitation() -> None:
    layer = Patterns(PATTERNS, DIM, 2, excitation=True)
    with_random_weights(layer)
    token_BND = tokens()
    pattern_BMD = layer(token_BND)
    for b in range(ROWS):
        read = [mab(layer.block, layer.inducing_MD[m], list(token_BND[b])) for m in range(PATTERNS)]
        torch.testing.assert_close(pattern_BMD[b], layer.excitation(torch.stack(read).unsqueeze(0)).squeeze(0))


def test_excitation_is_a_sigmoid_weight_of_each_pattern() -> None:
    excitation = Excitation(PATTERNS, DIM)
    pattern_BMD = torch.randn(ROWS, PATTERNS, DIM)
    first, second = excitation.first, excitation.second
    for b, excited_MD in enumerate(excitation(pattern_BMD)):
        squeezed_M = torch.stack([excitation.squeeze.weight[0] @ pattern_BMD[b, m] for m in range(PATTERNS)])
        logit_M = second.weight @ torch.relu(first.weight @ squeezed_M + first.bias) + second.bias
        for m in range(PATTERNS):
            torch.testing.assert_close(excited_MD[m], pattern_BMD[b, m] / (1 + torch.exp(-logit_M[m])))


def test_a_learnt_squeeze_tells_rows_apart_where_the_mean_does_not() -> None:
    layer = Patterns(PATTERNS, DIM, 2, excitation=True)
    read_BMD = layer.block(layer.inducing_MD, tokens())
    assert isinstance(layer.excitation, Excitation)
    assert read_BMD.mean(2).abs().max() < 1e-6
    assert layer.excitation.squeeze(read_BMD).std(0).min() > 1e-3


def test_without_excitation_every_weight_is_one() -> None:
    layer, plain = (Patterns(PATTERNS, DIM, 2, excitation=excitation) for excitation in (True, False))
    plain.load_state_dict({name: w for name, w in layer.state_dict().items() if not name.startswith("excitation")})
    assert isinstance(layer.excitation, Excitation)
    nn.init.zeros_(layer.excitation.second.weight)
    nn.init.constant_(layer.excitation.second.bias, 50.0)
    token_BND = tokens()
    torch.testing.assert_close(plain(token_BND), layer(token_BND))


@torch.no_grad()
def test_the_order_of_tokens_does_not_matter_to_patterns_and_is_kept_by_tokens() -> None:
    layer, rewrite = Patterns(PATTERNS, DIM, 2, excitation=True), Block(TokensRead(DIM, 2), DIM)
    token_BND, order = tokens(), torch.tensor([3, 0, 4, 1, 2])
    pattern_BMD = layer(token_BND)
    torch.testing.assert_close(layer(token_BND[:, order]), pattern_BMD)
    torch.testing.assert_close(rewrite(token_BND[:, order], pattern_BMD), rewrite(token_BND, pattern_BMD)[:, order])


@torch.no_grad()
def permute_patterns(layer: Patterns, order: Tensor) -> None:
    """Give each pattern the vector and the weights of excitation of another one."""
    layer.inducing_MD.copy_(layer.inducing_MD[order])
    assert isinstance(layer.excitation, Excitation)
    first, second = layer.excitation.first, layer.excitation.second
    first.weight.copy_(first.weight[:, order])
    second.weight.copy_(second.weight[order])
    second.bias.copy_(second.bias[order])


@torch.no_grad()
def test_permuting_inducing_vectors_permutes_patterns_and_nothing_else() -> None:
    layer, rewrite = Patterns(PATTERNS, DIM, 2, excitation=True), Block(TokensRead(DIM, 2), DIM)
    token_BND, order = tokens(), torch.tensor([2, 0, 3, 1])
    before_BMD = layer(token_BND)
    permute_patterns(layer, order)
    torch.testing.assert_close(layer(token_BND), before_BMD[:, order])
    torch.testing.assert_close(rewrite(token_BND, layer(token_BND)), rewrite(token_BND, before_BMD))


def test_heads_of_different_widths_are_refused() -> None:
    with pytest.raises(AssertionError):
        PatternsRead(DIM, 3)
