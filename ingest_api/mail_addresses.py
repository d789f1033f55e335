"""Which addresses mails can be sent to: what no mail server takes is refused where it is given, and not by a dead letter later."""

from __future__ import annotations

from typing import Final

import email_validator
from email_validator import EmailNotValidError, validate_email

#: The domain of a site's own network (RFC 6762 leaves it to the network), which the library takes for nobody's.
_OF_NETWORKS: Final = "local"

if _OF_NETWORKS in email_validator.SPECIAL_USE_DOMAIN_NAMES:
    email_validator.SPECIAL_USE_DOMAIN_NAMES.remove(_OF_NETWORKS)


def mailable(address: str) -> str:
    """The address, as it was given; a domain of letters beyond ASCII as IDNA 2008 maps it.

    RFC 5321 (section 4.5.3.1 for lengths), RFC 5891 for domains. Only one plain address is taken: no quoted local part, no name, no IP
    address, no single word; and no letters beyond ASCII before the ``@``: few servers take them (SMTPUTF8, RFC 6531), and mostly they
    are somebody's name where his address should be. Nobody is asked whether the domain exists. Raises ValueError.
    """
    try:
        found = validate_email(
            address,
            strict=True,
            allow_smtputf8=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            check_deliverability=False,
            test_environment=True,
        )
    except EmailNotValidError:
        found = None
    # RFC 3696, section 2: what ends in a number is an IP address and no domain.
    if found is None or found.ascii_domain.rpartition(".")[2].isdigit():
        raise ValueError("no mail server takes this address; one has the form name@example.org")
    return address if address.isascii() else found.normalized
