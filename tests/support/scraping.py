"""Reading /metrics of a run as Prometheus does, so that the run waits until its end was read."""

import time
import urllib.request


def scrape(url):
    request = urllib.request.Request(url, headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})
    return urllib.request.urlopen(request, timeout=10).read().decode()


def scrape_to_the_end(url):
    """The body with the run's final state."""
    while 'state="running"} 1' in (body := scrape(url)):
        time.sleep(0.05)
    return body
