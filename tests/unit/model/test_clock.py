"""Instants: what counts when clocks are set and machines are started anew."""

from dataclasses import replace

from emberbox.model.clock import Instant

THEN = Instant(wall=1_000_000.0, boot="one", uptime=50.0)


def test_setting_the_clock_changes_no_elapsed_time() -> None:
    hour_later_by_the_wall = replace(THEN, wall=THEN.wall + 3600, uptime=THEN.uptime + 5)

    assert THEN.elapsed_s(hour_later_by_the_wall) == 5


def test_after_a_new_start_of_the_machine_the_wall_clock_counts() -> None:
    assert THEN.elapsed_s(Instant(wall=THEN.wall + 70, boot="two", uptime=3.0)) == 70


def test_time_never_goes_backwards() -> None:
    assert THEN.elapsed_s(Instant(wall=THEN.wall - 70, boot="two", uptime=3.0)) == 0


def test_an_instant_survives_being_stored() -> None:
    now = Instant.now()

    assert Instant.from_json(now.to_json()) == now
    assert now.elapsed_s() >= 0
