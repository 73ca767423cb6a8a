"""Prices, of costs whose price is known."""

import pytest

from pipeline.encoding.choose import NEAR, TRIES, find_price


@pytest.mark.parametrize("first", [1e-9, 1e-3, 1e3])
@pytest.mark.parametrize("power", [0.3, 0.7, 1.5])
def test_a_price_is_found_that_nearly_costs_the_tolerance(first: float, power: float) -> None:
    asked = []

    def cost(price: float) -> float:
        asked.append(price)
        return float(3 * price**power + 1e-4 * price)

    price = find_price(cost, 0.02, first)
    assert price is not None and NEAR * 0.02 <= cost(price) <= 0.02
    assert len(asked) <= TRIES + 1


@pytest.mark.parametrize("edge", [3e-6, 5e-5, 4e-4])
def test_a_price_is_found_at_the_edge_of_a_cliff(edge: float) -> None:
    """Most rows become raw at one price, where their errors are much alike."""

    def cost(price: float) -> float:
        return 0.001 + 0.116 / (1 + (edge / price) ** 12)

    price = find_price(cost, 0.08, 6.4e-4)
    assert price is not None and NEAR * 0.08 <= cost(price) <= 0.08


def test_of_costs_in_steps_it_is_the_highest_price_below_the_tolerance() -> None:
    price = find_price(lambda price: 0.0 if price < 0.5 else 1.0, 0.02, 1e-3)
    assert price is not None and price < 0.5


def test_a_tolerance_that_nothing_holds_gives_no_price() -> None:
    assert find_price(lambda price: 1 + price, 0.02, 1e-3) is None
