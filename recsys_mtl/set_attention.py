"""Set attention with inducing vectors: a few patterns read a set of tokens, and the tokens read them back.

After the Set Transformer (Lee et al., ICML 2019), whose ISAB this is, with squeeze-and-excitation of the patterns
(Hu et al., CVPR 2018). Letters: N tokens, M patterns, K heads of width A, D = K·A, and J = M·K.
"""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention MHA(X, Y, Y), in which one of the two sets is much smaller than the other.

    A head's score is (x W_q + b)(y W_k)ᵀ/√A and its part of the output a (y W_v) W_o. Products of two weights are small
    here, so they are formed first and meet the smaller set alone: neither queries nor keys, values and heads of the
    larger one exist. Keys and values have no bias: a softmax does not see the one, and the output's is the other.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        assert dim % num_heads == 0, (dim, num_heads)
        shape = (dim, num_heads, dim // num_heads)
        self.query_DKA, self.key_DKA, self.value_DKA = (nn.Parameter(torch.empty(shape)) for _ in range(3))
        self.query_KA = nn.Parameter(torch.empty(shape[1:]))
        self.out_KAD = nn.Parameter(torch.empty(*shape[1:], dim))
        self.out_D = nn.Parameter(torch.empty(dim))
        for weight in (self.query_DKA, self.key_DKA, self.value_DKA, self.out_KAD):
            nn.init.uniform_(weight, -math.sqrt(3 / dim), math.sqrt(3 / dim))  # keeps the scale of what it maps
        for bias in (self.query_KA, self.out_D):
            nn.init.zeros_(bias)
        self.num_heads, self.scale = num_heads, 1 / math.sqrt(shape[2])

    def outputs_DKD(self) -> Tensor:
        """Multiply each head's maps from a value to the output."""
        return torch.einsum("dka,kae->dke", self.value_DKA, self.out_KAD)


class PatternsRead(Attention):
    """Queries are few and the same for all rows."""

    def forward(self, query_MD: Tensor, token_BND: Tensor) -> Tensor:
        """Return what each query reads from the row's tokens (B, M, D)."""
        query_MKA = torch.einsum("md,dka->mka", query_MD, self.query_DKA) + self.query_KA
        score_DMK = torch.einsum("mka,dka->dmk", query_MKA * self.scale, self.key_DKA)
        weight_BNJ = (token_BND @ score_DMK.flatten(1)).softmax(1)
        read_BJD = torch.bmm(weight_BNJ.transpose(1, 2), token_BND)
        read_BMX = read_BJD.view(-1, len(query_MD), self.num_heads * read_BJD.shape[2])
        return read_BMX @ self.outputs_DKD().transpose(0, 1).flatten(0, 1) + self.out_D


class TokensRead(Attention):
    """Keys are few."""

    def forward(self, token_BND: Tensor, pattern_BMD: Tensor) -> Tensor:
        """Return what each token reads from the row's patterns (B, N, D)."""
        B, N, _ = token_BND.shape
        key_DKD = torch.einsum("dka,eka->dke", self.key_DKA * self.scale, self.query_DKA)
        bias_DK = torch.einsum("dka,ka->dk", self.key_DKA * self.scale, self.query_KA)
        key_BJD, value_BJD = self._by_head(pattern_BMD, key_DKD), self._by_head(pattern_BMD, self.outputs_DKD())
        bias_B1J = (pattern_BMD @ bias_DK).transpose(1, 2).reshape(B, 1, -1)
        score_BNJ = torch.baddbmm(bias_B1J, token_BND, key_BJD.transpose(1, 2))
        weight_BNKM = score_BNJ.view(B, N, self.num_heads, -1).softmax(3)
        return torch.bmm(weight_BNKM.flatten(2), value_BJD) + self.out_D

    def _by_head(self, pattern_BMD: Tensor, weight_DKD: Tensor) -> Tensor:
        """Apply each head's weight to every pattern; all patterns of a head, then those of the next."""
        B, M, D = pattern_BMD.shape
        moved_BMKD = (pattern_BMD @ weight_DKD.flatten(1)).view(B, M, self.num_heads, D)
        return moved_BMKD.transpose(1, 2).flatten(1, 2)


class Block(nn.Module):
    """MAB(X, Y) = LN(Z + FF(Z)) with Z = LN(X + MHA(X, Y, Y)).

    FF is one linear map and ReLU, as in the Set Transformer's code: a hidden layer of 2·D would take longer than the
    attention.
    """

    def __init__(self, attention: Attention, dim: int) -> None:
        super().__init__()
        self.attention = attention
        self.linear = nn.Linear(dim, dim)
        self.first_norm, self.last_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``x`` after it has read ``y``; x may be the same for all rows."""
        z = self.first_norm(x + self.attention(x, y))
        return self.last_norm(z + self.linear(z).relu())  # type: ignore[no-any-return]


class Excitation(nn.Module):
    """Weighs each pattern of a row by what all of the row's patterns hold: s = σ(W_2 ReLU(W_1 squeeze(H))), s ⊙ H.

    The squeeze of a pattern is a learnt sum over its numbers and not their mean: a pattern leaves its block
    layer-normalised, so that at first its mean is zero in every row. There is no bottleneck: patterns are few.
    """

    def __init__(self, num_patterns: int, dim: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(dim, 1, bias=False)
        self.first, self.second = nn.Linear(num_patterns, num_patterns), nn.Linear(num_patterns, num_patterns)

    def forward(self, pattern_BMD: Tensor) -> Tensor:
        """Return the weighed patterns (B, M, D)."""
        squeezed_BM = self.squeeze(pattern_BMD).squeeze(2)
        weight_BM: Tensor = self.second(self.first(squeezed_BM).relu()).sigmoid()
        return pattern_BMD * weight_BM.unsqueeze(2)


class Patterns(nn.Module):
    """H = MAB(P, E) with learnt inducing vectors P, then excitation."""

    def __init__(self, num_patterns: int, dim: int, num_heads: int, *, excitation: bool) -> None:
        super().__init__()
        self.inducing_MD = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_patterns, dim)))
        self.block = Block(PatternsRead(dim, num_heads), dim)
        self.excitation = Excitation(num_patterns, dim) if excitation else nn.Identity()

    def forward(self, token_BND: Tensor) -> Tensor:
        """Return the row's patterns (B, M, D); the order of the tokens does not matter."""
        return self.excitation(self.block(self.inducing_MD, token_BND))  # type: ignore[no-any-return]
