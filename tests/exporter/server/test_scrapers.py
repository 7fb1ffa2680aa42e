"""Who is waited for at the end of a run."""

from types import SimpleNamespace

from rl_exporter.server.scrapers import MOST, RECENT_SECONDS, Scrapers

ONE, TWO = ("10.0.0.1", "Prometheus/3"), ("10.0.0.2", "Prometheus/3")


def connection(*, is_open=False):
    return SimpleNamespace(is_open=is_open)


def test_a_run_that_nobody_knows_of_waits_for_nobody():
    scrapers = Scrapers()
    scrapers.run_ended()
    assert scrapers.wait(0)


def test_a_registered_run_too_short_to_be_found_waits_for_its_first_scrape():
    scrapers = Scrapers()
    scrapers.run_ended(expected=True)
    assert not scrapers.wait(0)
    scrapers.scraped(ONE, connection(), final=False)
    assert not scrapers.wait(0), "a scrape that began before the end does not show it"
    scrapers.scraped(ONE, connection(), final=True)
    assert scrapers.wait(0)


def test_every_recent_scraper_is_waited_for_and_nobody_else():
    now = 0.0
    scrapers = Scrapers(lambda: now)
    scrapers.scraped(("10.0.0.3", "curl"), connection(), final=False)
    now = RECENT_SECONDS + 1
    for client in (ONE, TWO):
        scrapers.scraped(client, connection(), final=False)
    scrapers.run_ended(expected=True)
    scrapers.scraped(ONE, connection(), final=True)
    assert not scrapers.wait(0)
    scrapers.scraped(TWO, connection(), final=True)
    assert scrapers.wait(0)


def test_replicas_behind_one_address_are_told_apart_by_the_connections_that_they_keep():
    scrapers = Scrapers()
    first, second = connection(is_open=True), connection(is_open=True)
    for _ in range(3):
        scrapers.scraped(ONE, first, final=False)
        scrapers.scraped(ONE, second, final=False)
    scrapers.run_ended()
    scrapers.scraped(ONE, first, final=True)
    scrapers.scraped(ONE, first, final=True)
    assert not scrapers.wait(0), "one replica that comes twice is not two"
    scrapers.scraped(ONE, second, final=True)
    assert scrapers.wait(0)


def test_a_scraper_that_connects_anew_stays_one():
    scrapers = Scrapers()
    for _ in range(5):
        scrapers.scraped(ONE, connection(), final=False)
    scrapers.run_ended()
    scrapers.scraped(ONE, connection(), final=True)
    assert scrapers.wait(0)


def test_replicas_that_connect_anew_at_the_end_are_still_two():
    scrapers = Scrapers()
    first, second = connection(is_open=True), connection(is_open=True)
    for one in (first, second):
        scrapers.scraped(ONE, one, final=False)
    first.is_open = second.is_open = False
    scrapers.run_ended()
    scrapers.scraped(ONE, connection(is_open=True), final=True)
    assert not scrapers.wait(0)
    scrapers.scraped(ONE, connection(is_open=True), final=True)
    assert scrapers.wait(0)


def test_made_up_scrapers_fill_a_table_of_bounded_size_and_push_nobody_out_who_keeps_a_connection():
    scrapers = Scrapers()
    kept = connection(is_open=True)
    scrapers.scraped(ONE, kept, final=False)
    for number in range(3 * MOST):
        scrapers.scraped(("10.0.0.9", f"{number} " + "x" * 10_000), connection(), final=False)
    assert len(scrapers._known) == MOST
    assert sum(len(scraper.client[1]) for scraper in scrapers._known) < 200 * MOST
    assert kept in [scraper.connection for scraper in scrapers._known]


def test_it_names_whom_the_end_waits_for():
    scrapers = Scrapers()
    for client in (ONE, TWO):
        scrapers.scraped(client, connection(), final=False)
    assert scrapers.waits_for() == "", "the run has not ended"
    scrapers.run_ended()
    assert scrapers.waits_for() == "Prometheus/3 at 10.0.0.1 and Prometheus/3 at 10.0.0.2"
    scrapers.scraped(ONE, connection(), final=True)
    assert scrapers.waits_for() == "Prometheus/3 at 10.0.0.2"
    scrapers.scraped(TWO, connection(), final=True)
    assert scrapers.waits_for() == ""


def test_it_counts_those_that_look_alike_and_those_that_are_many():
    scrapers = Scrapers()
    for number in range(6):
        scrapers.scraped((f"10.0.1.{number}", ""), connection(is_open=True), final=False)
    for _ in range(2):
        scrapers.scraped(ONE, connection(is_open=True), final=False)
    scrapers.run_ended()
    assert scrapers.waits_for() == (
        "2 of Prometheus/3 at 10.0.0.1, a scraper at 10.0.1.0, a scraper at 10.0.1.1 and 4 more"
    )


def test_it_names_nobody_before_the_first_scrape():
    scrapers = Scrapers()
    scrapers.run_ended(expected=True)
    assert scrapers.waits_for() == "a first scraper, for nobody has come yet,"


def test_what_a_scraper_calls_itself_cannot_steer_a_terminal():
    scrapers = Scrapers()
    scrapers.scraped(("10.0.0.1", "\x9b31mPrometheus\u202e"), connection(), final=False)
    scrapers.run_ended()
    assert scrapers.waits_for() == r"\x9b31mPrometheus\u202e at 10.0.0.1"
