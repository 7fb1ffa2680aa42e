"""Who is waited for at the end of a run."""

from rl_exporter.server.scrapers import RECENT_SECONDS, Scrapers

ONE, TWO = ("10.0.0.1", "Prometheus/3"), ("10.0.0.2", "Prometheus/3")


def test_a_run_that_nobody_knows_of_waits_for_nobody():
    scrapers = Scrapers()
    scrapers.run_ended()
    assert scrapers.wait(0)


def test_a_registered_run_too_short_to_be_found_waits_for_its_first_scrape():
    scrapers = Scrapers()
    scrapers.run_ended(expected=True)
    assert not scrapers.wait(0)
    scrapers.scraped(ONE, final=False)
    assert not scrapers.wait(0), "a scrape that began before the end does not show it"
    scrapers.scraped(ONE, final=True)
    assert scrapers.wait(0)


def test_every_recent_scraper_is_waited_for_and_nobody_else():
    now = 0.0
    scrapers = Scrapers(lambda: now)
    scrapers.scraped(("10.0.0.3", "curl"), final=False)
    now = RECENT_SECONDS + 1
    for client in (ONE, TWO):
        scrapers.scraped(client, final=False)
    scrapers.run_ended(expected=True)
    scrapers.scraped(ONE, final=True)
    assert not scrapers.wait(0)
    scrapers.scraped(TWO, final=True)
    assert scrapers.wait(0)
