"""Learning a layer's tables from its calibration rows.

The final layer is measured in nats, by the metric of the head. Inner layers are read by cosines: there rows count by
their direction alone, and a centroid of the whole row goes before the stages.

Shapes: N rows, d hidden size, k components, B bands, S stages, T = S + 1 numbers of stages, from 0.
"""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.encoding.codebook import nearest, train_codebook
from pipeline.encoding.encoder import Encoder, RowCodes
from pipeline.encoding.gains import encode_gains, sizes, train_gains
from pipeline.encoding.stages import Stages, train_stages
from pipeline.encoding.transform import karhunen_loeve
from schemas.models.rvq import WIDEST, RVQTables

SEED = 0
GEOMETRY = 0.25  # power of a component's variance by which its error counts: pairs of rows meet in the large ones
MOST_SCALE = 2.0  # of a band: what is nearly lost is not brought back by a factor
FEW = 50  # rows by which a factor is not told


def train_final(rows_Nd: Tensor, metric_dd: Tensor, stages: int) -> Encoder:
    """Of final states [N, d] in float32; errors are e^T G e / 2, nats under the mean Fisher metric G."""
    transform = karhunen_loeve(rows_Nd, metric_dd)
    y_Nk = (rows_Nd - transform.mean_d) @ transform.encoder_dk
    # The size of a row counts its components alike: by its norm, the largest alone would tell it.
    variance_k = y_Nk.square().mean(0)
    deviation_k = variance_k.clamp_min(1e-6 * float(variance_k[0])).sqrt()
    size_N = sizes(y_Nk, deviation_k)
    gains = train_gains(size_N)
    y_Nk /= gains[encode_gains(size_N, gains)][:, None]
    weight_k = y_Nk.new_ones(y_Nk.shape[1])
    trained = train_stages(y_Nk, weight_k, min(stages, 2 * len(weight_k) - 2), SEED)  # shorter than a raw row
    tables = _tables(transform.mean_d, transform.decoder_kd, transform.encoder_dk, gains, y_Nk[:0], trained)
    return Encoder(tables, trained, weight_k, deviation_k)


def train_inner(rows_Nd: Tensor, stages: int) -> Encoder:
    """Of inner states [N, d] in float32; errors are relative to the squared length of a centred row."""
    mean_d = rows_Nd.double().mean(0).float()
    size_N = sizes(rows_Nd - mean_d, None)
    gains = train_gains(size_N)
    unit_Nd = (rows_Nd - mean_d) / gains[encode_gains(size_N, gains)][:, None]
    centroids = train_codebook(unit_Nd, SEED)
    transform = karhunen_loeve(unit_Nd - centroids[nearest(unit_Nd, centroids)], None)
    y_Nk, centroids = unit_Nd @ transform.encoder_dk, centroids @ transform.encoder_dk
    variance_k = y_Nk.square().mean(0)
    weight_k = (variance_k / variance_k.max()).pow(GEOMETRY)
    y_Nk -= centroids[nearest(y_Nk, centroids)]
    trained = train_stages(y_Nk, weight_k, min(stages, 2 * len(weight_k) - 3), SEED)
    tables = _tables(mean_d, transform.decoder_kd, transform.encoder_dk, gains, centroids, trained)
    return Encoder(tables, trained, weight_k, None)


def extend(encoder: Encoder, rows_Nd: Tensor, stages: int) -> Encoder:
    """The same encoder with more stages, learnt of the rows that it was learnt from. What was there stays."""
    left_Nk, _ = encoder.before_stages(rows_Nd)
    known, room = encoder.stages, encoder.tables.raw_size - encoder.tables.header - 1
    return _with_stages(encoder, train_stages(left_Nk, encoder.weight_k, min(stages, room), SEED, known))


def shorten(encoder: Encoder, stages: int) -> Encoder:
    """The same encoder with its first stages alone. Rows that had no more stay the same."""
    known = encoder.stages
    return _with_stages(encoder, Stages(known.bands, known.band_S[:stages], known.codebooks[:stages]))


def _with_stages(encoder: Encoder, stages: Stages) -> Encoder:
    t = encoder.tables
    tables = _tables(t.mean_d, t.decoder_kd, t.encoder_dk, t.gains, t.centroids, stages)
    known = tables.scales_TB[: len(t.scales_TB)]
    known.copy_(t.scales_TB[: len(known)])
    return replace(encoder, tables=tables, stages=stages)


def keep_energy(
    encoder: Encoder, rows_Nd: Tensor, codes: RowCodes | None = None, left_Nk: Tensor | None = None
) -> Encoder:
    """The same encoder, whose decoded bands are as long as the true ones at its price. `codes` are the rows' own, and
    `left_Nk` what the stages are to encode of them, if they are known already: no price changes them.

    A centroid is a mean, shorter than what it stands for, so that cosines between decoded rows come out too large. A
    band of which the share f of the energy is kept is multiplied with f^-1/2: a little more error, less of it common.
    """
    tables = encoder.tables
    codes = codes or encoder.codes(rows_Nd)
    stages_N, _ = encoder.choose(codes)
    coded_N = stages_N >= 0
    left_Nk = (encoder.before_stages(rows_Nd)[0] if left_Nk is None else left_Nk)[coded_N]
    codes_SN, stages_N = codes.bytes_Nx[coded_N, tables.header :].T.contiguous(), stages_N[coded_N]
    scales_TB = torch.ones_like(tables.scales_TB)
    for band, (start, end) in enumerate(encoder.stages.bands):
        its_stages = [stage for stage, of in enumerate(encoder.stages.band_S) if of == band]
        # Of the band, at each number of stages.
        steps_T = torch.searchsorted(torch.tensor(its_stages), torch.arange(len(scales_TB))).to(left_Nk.device)
        decoded_Ng = left_Nk.new_zeros(len(left_Nk), end - start)
        for step, stage in enumerate(its_stages, 1):
            decoded_Ng += encoder.stages.codebooks[stage].index_select(0, codes_SN[stage].int())
            here_N = steps_T[stages_N] == step
            if here_N.sum() >= FEW:
                kept = decoded_Ng[here_N].square().sum() / left_Nk[here_N, start:end].square().sum()
                scales_TB[steps_T == step, band] = kept.rsqrt().clamp(1.0, MOST_SCALE)
    return replace(encoder, tables=replace(tables, scales_TB=scales_TB))


def _tables(
    mean_d: Tensor, decoder_kd: Tensor, encoder_dk: Tensor, gains: Tensor, centroids_Kk: Tensor, stages: Stages
) -> RVQTables:
    number, device = len(stages.codebooks), mean_d.device
    codebooks = torch.zeros(number, 256, WIDEST, dtype=torch.float16, device=device)
    for stage, codebook in enumerate(stages.codebooks):
        codebooks[stage, :, : codebook.shape[1]] = codebook
    return RVQTables(
        mean_d=mean_d,
        decoder_kd=decoder_kd,
        encoder_dk=encoder_dk,
        gains=gains,
        centroids=centroids_Kk,
        bands=torch.tensor(stages.bands, dtype=torch.int32, device=device),
        band_S=torch.tensor(stages.band_S, dtype=torch.int32, device=device),
        codebooks=codebooks,
        scales_TB=torch.ones(number + 1, len(stages.bands), device=device),
    )
