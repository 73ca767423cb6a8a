"""What an encoding costs: in nats where states become predictions, in cosines where they are compared with each other.

Raw cosines of inner states flatter every codec, because a common direction makes them all alike: they are taken after
subtracting the mean state.

Shapes: N rows, d hidden size, V vocabulary, G groups of rows.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.encoding.head import Head

ROWS_AT_ONCE = 512  # whose predictions are compared
FEWEST = 8  # spans
GROUP = 3  # tokens in a row stand for a span: a word of English has about 1.3, a phrase 3
COMPARED = 3072  # rows whose cosines are compared with each other: 1,024 spans


def kl_divergence(true_Nd: Tensor, decoded_Nd: Tensor, head: Head) -> Tensor:
    """KL(softmax(z) || softmax(z')) of each row, [N] in nats, over the whole vocabulary, on the head's device.

    KL = E[z - z'] - log sum exp z + log sum exp z', the mean by softmax(z); each is gathered over parts of the
    vocabulary, in float64.
    """
    pairs = zip(true_Nd.split(ROWS_AT_ONCE), decoded_Nd.split(ROWS_AT_ONCE), strict=True)
    found = [_kl_of_some(true_nd, decoded_nd, head) for true_nd, decoded_nd in pairs if len(true_nd)]
    return torch.cat(found) if found else true_Nd.new_empty(0, dtype=torch.float32)


def _kl_of_some(true_nd: Tensor, decoded_nd: Tensor, head: Head) -> Tensor:
    parts, both_Md = list[tuple[Tensor, Tensor, Tensor]](), torch.cat([true_nd, decoded_nd])
    for logits_Mv in head.logits_of_parts(both_Md):
        true_nv, decoded_nv = logits_Mv.chunk(2)
        apart_nv = true_nv - decoded_nv
        most_M1 = logits_Mv.amax(1, keepdim=True)
        share_Mv = logits_Mv.sub_(most_M1).exp_()
        sum_M = share_Mv.sum(1)
        log_p_n, log_q_n = (sum_M.log() + most_M1[:, 0]).double().chunk(2)
        mean_n = apart_nv.mul_(share_Mv[: len(true_nd)]).sum(1) / sum_M[: len(true_nd)]
        parts.append((log_p_n, log_q_n, mean_n.double()))
    log_p_Pn, log_q_Pn, mean_Pn = (torch.stack(of_parts) for of_parts in zip(*parts, strict=True))
    kl_n = (log_p_Pn.softmax(0) * mean_Pn).sum(0) - log_p_Pn.logsumexp(0) + log_q_Pn.logsumexp(0)
    return kl_n.clamp_min(0).float()  # rounding may leave it below


def centred_cosine(true_Nd: Tensor, decoded_Nd: Tensor, mean_d: Tensor) -> Tensor:
    """[N]: the cosine of each row and what it is decoded to, the mean state subtracted from both."""
    return torch.nn.functional.cosine_similarity(true_Nd.float() - mean_d, decoded_Nd.float() - mean_d, dim=1)


def compared_rows(rows: int) -> Tensor:
    """Rows in groups of GROUP in a row, up to COMPARED of them, spread evenly; all of fewer."""
    if rows <= COMPARED:
        return torch.arange(rows)
    groups = COMPARED // GROUP
    first = torch.arange(groups) * (rows // GROUP) // groups * GROUP
    return (first[:, None] + torch.arange(GROUP)).flatten()


def geometry_error(true_Nd: Tensor, decoded_Nd: Tensor, mean_d: Tensor) -> float | None:
    """How far cosines between centred spans are off: their root mean square error by their standard deviation.

    A span is the mean of GROUP rows in a row. None of fewer than FEWEST spans, or of such as are all alike.
    """
    true_GG, decoded_GG = (_cosines(rows_Nd.float() - mean_d) for rows_Nd in (true_Nd, decoded_Nd))
    pairs_GG = torch.ones_like(true_GG, dtype=torch.bool).triu(1)
    true, decoded = (cosines_GG.masked_select(pairs_GG).double() for cosines_GG in (true_GG, decoded_GG))
    if len(true_GG) < FEWEST or float(true.std(correction=0)) < 1e-6:
        return None
    return float((true - decoded).square().mean().sqrt() / true.std(correction=0))


def _cosines(rows_Nd: Tensor) -> Tensor:
    whole = len(rows_Nd) // GROUP * GROUP
    spans_Gd = normalize(rows_Nd[:whole].view(-1, GROUP, rows_Nd.shape[1]).mean(1), dim=1)
    return spans_Gd @ spans_Gd.T
