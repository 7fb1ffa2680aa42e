"""Who may read by password, and how little a stranger can make a trainer compute."""

import logging
import threading

import bcrypt
import pytest

from rl_exporter.server.gate import Gate
from rl_exporter.server.logins import Logins, TooManyLoginsError
from tests.hostile.reading import GOOD, USERS, ask, basic, serving, status
from tests.support.certificates import HASH, PASSWORD
from tests.support.waiting import until


@pytest.fixture
def guarded(tmp_path):
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users: {{prometheus: '{HASH}'}}")
    with serving(config) as server:
        yield server


@pytest.mark.parametrize(
    "login",
    ["prometheus:wrong", "prometheus:", f"nobody:{PASSWORD}", "prometheus:" + "x" * 5000, ":", "prometheus:\0"],
    ids=["wrong", "empty", "unknown user", "long", "nothing", "nul"],
)
def test_a_bad_login_is_refused(guarded, login):
    answer, headers = ask(guarded, login=login)
    assert answer == 401
    assert headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "authorization", ["", "Basic", "Basic !!!", "Bearer x", "Basic cHJvbWV0aGV1cw==", "Basic /w=="]
)
def test_what_is_no_login_costs_no_bcrypt(guarded, authorization):
    asked = []
    guarded._gate._logins._checkpw = lambda *given: asked.append(given)
    assert status(guarded, Authorization=authorization) == 401
    assert asked == []


def test_a_good_login_reads_every_page_and_costs_bcrypt_once(guarded):
    asked = []
    guarded._gate._logins._checkpw = lambda *given: asked.append(given) or bcrypt.checkpw(*given)
    for path in ("/metrics", "/", "/api/v1/heads", "/-/healthy", "/metrics"):
        assert status(guarded, path, login=GOOD) == 200
        assert status(guarded, path) == 401
    assert len(asked) == 1


def test_replicas_that_log_in_at_once_share_one_check():
    checking, asked = threading.Event(), []
    logins = Logins(checkpw=lambda *given: asked.append(given) or checking.wait(30))
    both = [logins.check(USERS, basic(GOOD), "10.0.0.1") for _ in range(2)]
    checking.set()
    assert [result.result(30) for result in both] == [True, True]
    assert len(asked) == 1


def test_a_password_changes_without_a_restart(tmp_path, attentive):
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users: {{prometheus: '{HASH}'}}")
    with serving(config) as server:
        assert status(server, login=GOOD) == 200
        new = bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()
        config.write_text(f"basic_auth_users: {{prometheus: '{new}', other: '{new}'}}")
        assert status(server, login=GOOD) == 401
        until(lambda: status(server, login="prometheus:new") == 200)


def test_bad_logins_of_one_address_are_held_back():
    now = 100.0
    asked = []
    logins = Logins(lambda: now, lambda password, hashed: asked.append(password) or password == b"good")
    assert logins.check(USERS, basic("prometheus:bad"), "10.0.0.1").result(30) is False
    for number in range(1000):
        with pytest.raises(TooManyLoginsError):
            logins.check(USERS, basic(f"prometheus:{number}"), "10.0.0.1")
    assert logins.check(USERS, basic("prometheus:good"), "10.0.0.2").result(30) is True
    assert logins.check(USERS, basic("prometheus:good"), "10.0.0.1") is True, "a known one is never held back"
    now += 1.1
    assert logins.check(USERS, basic("prometheus:bad"), "10.0.0.1").result(30) is False
    assert len(asked) == 3


def test_bad_logins_of_many_addresses_wait_in_a_short_line():
    checking = threading.Event()
    logins = Logins(checkpw=lambda password, hashed: checking.wait(30) and False)
    refused = 0
    for number in range(1000):
        try:
            logins.check(USERS, basic(f"prometheus:{number}"), f"10.0.{number // 256}.{number % 256}")
        except TooManyLoginsError:
            refused += 1
    assert refused > 950
    assert len(logins._held_until) <= 256
    checking.set()


def test_a_bad_login_is_followed_by_a_rest_of_nine_times_its_duration():
    now, rests, rested = 10.0, [], threading.Event()

    def slow(password, hashed):
        nonlocal now
        now += 0.25
        return False

    logins = Logins(lambda: now, slow, lambda seconds: rests.append(seconds) or rested.set())
    assert logins.check(USERS, basic("prometheus:bad"), "10.0.0.1").result(30) is False
    assert rested.wait(30)
    assert rests == [pytest.approx(2.25)]


def test_an_unknown_user_costs_what_a_known_one_does():
    asked = []
    logins = Logins(lambda: 0.0, lambda *given: asked.append(given) or True)
    assert logins.check(USERS, basic("nobody:x"), "10.0.0.1").result(30) is False
    assert [hashed for _, hashed in asked] == [HASH.encode()]


def test_the_cache_holds_neither_passwords_nor_bad_logins():
    logins = Logins(checkpw=lambda password, hashed: password == b"secret-password")
    assert logins.check(USERS, basic("prometheus:secret-password"), "10.0.0.1").result(30)
    assert not logins.check(USERS, basic("prometheus:other"), "10.0.0.2").result(30)
    assert len(logins._good) == 1
    assert b"secret-password" not in next(iter(logins._good))


def test_a_flood_of_logins_leaves_a_known_scraper_alone(guarded):
    assert status(guarded, login=GOOD) == 200
    for number in range(50):
        assert status(guarded, login=f"prometheus:{number}") in {401, 429}
        assert status(guarded, login=GOOD) == 200


def test_no_secret_reaches_the_log_or_an_error(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    config = tmp_path / "web.yml"
    config.write_text("basic_auth_users: {prometheus: my-plain-password}")
    with pytest.raises(ValueError, match="no bcrypt hash") as told:
        Gate(config)
    assert "my-plain-password" not in str(told.value) + caplog.text
