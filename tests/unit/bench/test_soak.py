"""What counts as a leak."""

from bench.soak import Look, compare

FIRST = Look(counts={"files of synth": 20, "sessions of odea_quota": 8}, rss_bytes={"synth": 100_000_000})


def test_the_same_or_less_is_none() -> None:
    assert compare(FIRST, FIRST) == []
    less = Look(counts={"files of synth": 19, "sessions of odea_quota": 2}, rss_bytes={"synth": 109_000_000})
    assert compare(FIRST, less) == []


def test_one_more_of_anything_is_one_and_so_is_a_tenth_more_memory() -> None:
    more = Look(counts={"files of synth": 21, "tasks of synth": 1}, rss_bytes={"synth": 111_000_000})
    assert compare(FIRST, more) == [
        "files of synth: 20 at first, 21 at last",
        "tasks of synth: 0 at first, 1 at last",
        "memory of synth: 100 MB at first, 111 MB at last",
    ]


def test_nats_may_use_the_memory_and_the_threads_that_it_is_given_and_no_more() -> None:
    at_first = Look(counts={"threads of nats": 8}, rss_bytes={"nats": 31_000_000})
    assert compare(at_first, Look(counts={"threads of nats": 9}, rss_bytes={"nats": 61_000_000})) == []
    assert compare(at_first, Look(counts={"threads of nats": 17}, rss_bytes={"nats": 93_000_000})) == [
        "threads of nats: 8 at first, 17 at last",
        "memory of nats: 31 MB at first, 93 MB at last",
    ]
