from __future__ import annotations

from pocketformer.runtime.serving.figures import Figures, Histogram


def test_buckets_are_cumulative_and_their_ends_inclusive() -> None:
    histogram = Histogram((0.5, 1.0))
    for value in (0.1, 0.5, 0.75, 1.0, 3.0):
        histogram.observe(value)
    assert histogram.lines("x") == [
        'x_bucket{le="0.5"} 2',
        'x_bucket{le="1"} 4',
        'x_bucket{le="+Inf"} 5',
        "x_sum 5.35",
        "x_count 5",
    ]


def test_every_family_has_help_and_type_and_labels_are_escaped() -> None:
    figures = Figures()
    figures.responses["/predict", 200] += 2
    text = figures.exposition(bundle={"name": 'a"b\\c\nd'}, waiting=3, batches=4)
    assert text.endswith("\n")
    assert 'bundle_info{name="a\\"b\\\\c\\nd"} 1\n' in text
    assert 'pocketformer_responses_total{path="/predict",status="200"} 2\n' in text
    assert "pocketformer_waiting_texts 3\n" in text
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert families == [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
    assert len(families) == len(set(families)) == 7
    for line in text.splitlines():
        assert line.startswith(("#", *families)), line
