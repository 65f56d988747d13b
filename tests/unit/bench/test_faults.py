"""Schedules of chaos: a seed decides them, and nothing is left out."""

from bench.faults import PARTS, PAUSE_S, Kind, schedule, short_schedule


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule(5, rounds=2, pause_s=1) == schedule(5, rounds=2, pause_s=1)
    assert schedule(5, rounds=1, pause_s=1) != schedule(6, rounds=1, pause_s=1)


def test_a_round_has_every_fault_on_every_part_once() -> None:
    faults = schedule(1, rounds=1, pause_s=4)
    done = [(fault.kind, fault.part) for fault in faults]
    assert len(done) == len(set(done)) == 3 * len(PARTS) + 2
    assert all(2 <= fault.pause_s <= 6 for fault in faults)
    paused = [fault.lasts_s for fault in faults if fault.kind is Kind.PAUSE]
    assert all(PAUSE_S[0] <= lasts_s <= PAUSE_S[1] for lasts_s in paused)


def test_a_short_round_has_each_kind_on_a_part_of_its_own() -> None:
    for seed in range(20):
        faults = short_schedule(seed, pause_s=1)
        assert {fault.kind for fault in faults} == set(Kind)
        parts = [fault.part for fault in faults if fault.part]
        assert len(parts) == len(set(parts)) == 3
