from __future__ import annotations

import itertools

import pytest

from pocketformer.compress.quantize.sensitivity_core import by_worth, fewest


@pytest.mark.parametrize("most", [1, 2, 3, 7, 24])
def test_the_fewest_that_hold_are_found_in_few_questions(most: int) -> None:
    for answer in range(1, most + 1):
        asked: list[int] = []

        def holds(count: int, answer: int = answer, asked: list[int] = asked) -> bool:
            asked.append(count)
            return count >= answer

        assert fewest(most, holds) == answer
        assert len(set(asked)) == len(asked) <= 2 * answer.bit_length() + 1
    assert fewest(most, lambda _: False) is None


def test_nothing_to_leave_is_no_answer() -> None:
    assert fewest(0, lambda _: True) is None


def test_the_order_is_the_greedy_solution_of_the_knapsack() -> None:
    """Each length of it saves at least what any other choice saves that costs no more."""
    errors, costs = [0.5, 0.02, 0.3, 0.3, 0.0], [4.0, 0.1, 2.0, 1.0, 3.0]
    order = by_worth(errors, costs)
    assert order == [3, 1, 2, 0, 4]
    for count in range(1, 5):
        taken = order[:count]
        saved, spent = sum(errors[i] for i in taken), sum(costs[i] for i in taken)
        for size in range(1, 6):
            for other in itertools.combinations(range(5), size):
                if sum(costs[i] for i in other) <= spent + 1e-9:
                    assert sum(errors[i] for i in other) <= saved + 1e-9
