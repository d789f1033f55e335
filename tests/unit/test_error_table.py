from collections.abc import Iterator

from domain import errors, refusals
from domain.error_table import ERROR_TABLE, POLICY_OF_KIND
from domain.errors import DPJError, ErrorKind, Permanent, Refused, Transient

GROUPS = {DPJError, Refused, Transient, Permanent}
MODULES = {errors.__name__, refusals.__name__}


def _concrete(root: type[DPJError]) -> Iterator[type[DPJError]]:
    for child in root.__subclasses__():
        if child not in GROUPS and child.__module__ in MODULES:
            yield child
        yield from _concrete(child)


def test_every_error_has_its_own_code_and_a_row() -> None:
    classes = list(_concrete(DPJError))
    codes = [error.code for error in classes]
    assert len(classes) > 40
    assert len(codes) == len(set(codes))
    assert set(codes) | {DPJError.code} == set(ERROR_TABLE)


def test_status_and_policy_fit_the_kind() -> None:
    for error in _concrete(DPJError):
        row = ERROR_TABLE[error.code]
        assert row.policy == POLICY_OF_KIND[error.kind]
        if error.kind is ErrorKind.REFUSED:
            assert 400 <= row.http_status < 500
        elif error.kind is ErrorKind.TRANSIENT:
            assert row.http_status == 503
        else:
            assert row.http_status == 500
        assert row.title
        assert row.advice.endswith((".", "?"))
        assert row.advice != f"{row.title}."  # which is the detail of one that has no other


def test_transient_errors_name_what_they_wait_for() -> None:
    for error in _concrete(DPJError):
        if issubclass(error, Transient):
            assert error.waiting_for != "dependency"
            assert error.retry_after >= 1
