"""What an encoding costs: in nats where states become predictions, in cosines where they are compared with each other.

Raw cosines of inner states flatter every codec, because a common direction makes them all alike: they are taken after
subtracting the mean state.

Shapes: N rows, d hidden size, V vocabulary, G groups of rows.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.encoding.head import Head

LOGITS_AT_ONCE = 2**25  # numbers: 128 MB
FEWEST = 8  # spans
GROUP = 3  # tokens in a row stand for a span: a word of English has about 1.3, a phrase 3


def kl_divergence(true_Nd: Tensor, decoded_Nd: Tensor, head: Head) -> Tensor:
    """KL(softmax(z) || softmax(z')) of each row, [N] in nats, over the whole vocabulary, on the head's device."""
    found = list[Tensor]()
    step = max(1, LOGITS_AT_ONCE // len(head.weight_Vd))
    for start in range(0, len(true_Nd), step):
        some = slice(start, start + step)
        log_p, log_q = (head.logits(states_Nd[some]).log_softmax(-1) for states_Nd in (true_Nd, decoded_Nd))
        found.append((log_p.exp() * (log_p - log_q)).sum(-1))
    return torch.cat(found) if found else true_Nd.new_empty(0, dtype=torch.float32)


def centred_cosine(true_Nd: Tensor, decoded_Nd: Tensor, mean_d: Tensor) -> Tensor:
    """[N]: the cosine of each row and what it is decoded to, the mean state subtracted from both."""
    return torch.nn.functional.cosine_similarity(true_Nd.float() - mean_d, decoded_Nd.float() - mean_d, dim=1)


def geometry_error(true_Nd: Tensor, decoded_Nd: Tensor, mean_d: Tensor) -> float | None:
    """How far cosines between centred spans are off: their root mean square error by their standard deviation.

    A span is the mean of GROUP rows in a row. None of fewer than FEWEST spans, or of such as are all alike.
    """
    true_GG, decoded_GG = (_cosines(rows_Nd.float() - mean_d) for rows_Nd in (true_Nd, decoded_Nd))
    apart = ~torch.eye(len(true_GG), dtype=torch.bool, device=true_GG.device)
    true, decoded = true_GG[apart].double(), decoded_GG[apart].double()
    if len(true_GG) < FEWEST or float(true.std(correction=0)) < 1e-6:
        return None
    return float((true - decoded).square().mean().sqrt() / true.std(correction=0))


def _cosines(rows_Nd: Tensor) -> Tensor:
    whole = len(rows_Nd) // GROUP * GROUP
    spans_Gd = normalize(rows_Nd[:whole].view(-1, GROUP, rows_Nd.shape[1]).mean(1), dim=1)
    return spans_Gd @ spans_Gd.T
