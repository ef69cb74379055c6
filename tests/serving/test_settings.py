import socket
from pathlib import Path

import pytest

from recsys_mtl.config import ConfigError
from serving.run import address_of, listen, run
from serving.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RECSYS_MTL_{name.upper()}", raising=False)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_MTL_MODEL", "models:/shop/3")
    monkeypatch.setenv("RECSYS_MTL_PORT", "9000")
    settings = read_settings()
    assert (settings.model, settings.port, settings.intra_op_threads) == ("models:/shop/3", 9000, 1)


def test_options_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_MTL_PORT", "9000")
    monkeypatch.setenv("RECSYS_MTL_HOST", "0.0.0.0")
    settings = read_settings(port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "0.0.0.0")


def test_a_service_link_of_kubernetes_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_MTL_PORT", "tcp://10.0.0.7:8000")
    assert read_settings().port == Settings.model_fields["port"].default


def test_every_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_MTL_PORT", "99999")
    monkeypatch.setenv("RECSYS_MTL_MAX_CANDIDATES", "many")
    with pytest.raises(ConfigError) as error:
        read_settings(intra_op_threads=0, treads=2)
    names = {problem.partition(":")[0] for problem in error.value.problems}
    expected = {"PORT", "MAX_CANDIDATES", "INTRA_OP_THREADS", "TREADS"}
    assert names == {f"RECSYS_MTL_{name}" for name in expected}


def test_the_cache_may_be_in_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert read_settings().cache_dir == Path("/home/someone/.cache/recsys-mtl")


@pytest.mark.parametrize(("host", "start"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_any_free_port_is_taken_for_0(host: str, start: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 on this machine")
    with listen(host, 0) as listener:
        assert address_of(listener).startswith(start)
        assert int(address_of(listener).rpartition(":")[2]) > 0


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_port_in_use_is_an_error_for_the_user() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port: cannot listen on 127\.0\.0\.1:{port}: Address already in use$"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"port": -1}, "RECSYS_MTL_PORT: "), ({"model": "no/such/bundle"}, "model: 'no/such/bundle' is not a bundle")],
)
def test_wrong_settings_end_with_code_2(
    overrides: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(**overrides) == 2
    assert capsys.readouterr().err.startswith(message)
