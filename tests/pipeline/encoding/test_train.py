"""What is learnt of a layer's rows."""

import pytest
import torch

from pipeline.encoding.train import keep_energy, train_final, train_inner
from tests.pipeline.encoding.layers import WIDTH, layer

STAGES = 20


def test_a_coded_row_is_shorter_than_a_raw_one() -> None:
    for encoder in (train_inner(layer(300), 1000), train_final(layer(300), torch.eye(WIDTH), 1000)):
        assert encoder.tables.header + len(encoder.tables.band_S) == 2 * WIDTH - 1


def test_kept_energy_makes_decoded_bands_as_long_as_the_true_ones() -> None:
    plain, rows_Nd = train_inner(layer(4000), STAGES).at(1e-2), layer(4000)
    shares = []
    for encoder in (plain, keep_energy(plain, rows_Nd)):
        rows = encoder.encode(rows_Nd)
        true_Nk, header_Nx = encoder.before_stages(rows_Nd)
        decoded_Nd = encoder.tables.states(rows.data, rows.size_N)
        y_Nk = (decoded_Nd - encoder.tables.mean_d) @ encoder.tables.encoder_dk
        y_Nk = y_Nk / encoder.tables.gains[header_Nx[:, 0].long()][:, None]
        y_Nk = y_Nk - encoder.tables.centroids[header_Nx[:, 1].long()]
        refined_Nk = y_Nk.abs() > 1e-5  # components of a band that has a stage
        shares.append(float((y_Nk.square() * refined_Nk).sum() / (true_Nk.square() * refined_Nk).sum()))
    assert shares[0] < 0.97 and shares[1] == pytest.approx(1, abs=0.01)
