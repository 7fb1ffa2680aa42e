"""Where messages go: formats by host or prefix, and a URL that nobody sees."""

import pytest

from rl_exporter.notify.destination import parse_destination, parse_destinations
from rl_exporter.notify.formats import Format

SECRET = "T0KEN"


@pytest.mark.parametrize(
    ("text", "form", "host", "url"),
    [
        ("https://hooks.slack.com/services/T0KEN", "slack", "hooks.slack.com", "https://hooks.slack.com/services/T0KEN"),
        ("https://discord.com/api/webhooks/1/T0KEN", "discord", "discord.com", "https://discord.com/api/webhooks/1/T0KEN"),
        ("http://127.0.0.1:28009/", "json", "127.0.0.1", "http://127.0.0.1:28009/"),
        ("slack:https://chat.example.org/hooks/T0KEN", "slack", "chat.example.org", "https://chat.example.org/hooks/T0KEN"),
        ("json:https://discord.com/T0KEN", "json", "discord.com", "https://discord.com/T0KEN"),
        ("discord:http://[::1]:8080/T0KEN", "discord", "::1", "http://[::1]:8080/T0KEN"),
    ],
)  # fmt: skip
def test_the_host_or_a_prefix_says_what_a_webhook_takes(text, form, host, url):
    destination = parse_destination(text)
    assert (destination.format, destination.host, destination.url) == (Format(form), host, url)
    assert SECRET not in repr(destination)


def test_a_login_is_shown_to_the_server_alone():
    destination = parse_destination("https://me:T0KEN%40@alerts.example.org:8443/x")
    assert (destination.url, destination.basic_auth) == ("https://alerts.example.org:8443/x", "me:T0KEN@")
    assert SECRET not in repr(destination)


@pytest.mark.parametrize(
    "text",
    ["T0KEN", "ftp://example.org/T0KEN", "https:///T0KEN", "teams:https://example.org/T0KEN", "https://a b/T0KEN",
     "https://[::1/T0KEN", "http://x:T0KEN/", "slack:", "", "https://example.org/T0KEN\n"],
)  # fmt: skip
def test_what_is_no_webhook_is_refused_without_being_shown(text):
    with pytest.raises(ValueError, match=r"no URL of a webhook; give the URL of a webhook, such as") as error:
        parse_destination(text)
    assert SECRET not in str(error.value)


def test_a_file_holds_the_url(tmp_path):
    file = tmp_path / "url"
    file.write_text("https://hooks.slack.com/services/T0KEN\n")
    assert parse_destination(f"@{file}").url.endswith("T0KEN")
    file.write_text("T0KEN")
    with pytest.raises(ValueError, match=r"url': no URL of a webhook") as error:
        parse_destination(f"@{file}")
    assert SECRET not in str(error.value)
    with pytest.raises(ValueError, match=r"missing': No such file or directory; give"):
        parse_destination(f"@{tmp_path / 'missing'}")


def test_there_may_be_several_and_none():
    assert parse_destinations(None) == ()
    assert len(parse_destinations("http://a/")) == 1
    assert len(parse_destinations(["http://a/", "http://b/"])) == 2
