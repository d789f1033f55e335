"""Addresses of clients: what counts as one client, and which proxies are believed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

#: Bits of an IPv6 address that its holder does not choose: a site is given so much, and may use any address within.
_IPV6_SITE_BITS = 64


def client_key(address: str) -> str:
    """What the address counts as: an IPv4 address itself, an IPv6 address its /64; what is no address the empty text."""
    ip = _parsed(address)
    if isinstance(ip, IPv6Address):
        return str(IPv6Network((int(ip), _IPV6_SITE_BITS), strict=False))
    return str(ip) if ip else ""


def within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether the address belongs to one of them."""
    ip = _parsed(address)
    return ip is not None and any(ip in network for network in networks)


def proxy_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, with commas; none if there is no text.

    Raises ValueError for what is neither, for a network with host bits, and for one that holds every address: whoever
    believed all of them would take a client's own word for where it comes from.
    """
    if not text.strip():
        return ()
    networks = []
    for entry in (part.strip() for part in text.split(",")):
        try:
            network = ip_network(entry)
        except ValueError:
            raise ValueError(f"{entry!r} is no address and no network") from None
        if network.prefixlen == 0:
            raise ValueError(f"{entry} would trust every address")
        networks.append(network)
    return tuple(networks)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    # Where a socket takes both, an IPv4 address is written as one of IPv6: all of them would be one /64.
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
