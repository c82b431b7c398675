"""The network of one microVM: a namespace of its own with a tap device, and policy by nftables.

Every clone of a snapshot has the same address inside, so each needs a namespace of its own. Making one takes some
30 ms, so a pool makes them ahead. The way in:

    gateway on the host ──► 10.213.x.y (veth) ──► DNAT to 127.0.0.1 ──► tap ──► the guest's loopback

The guest accepts packets for 127.0.0.1 from its network device (route_localnet), so that servers which listen on
loopback alone are reached, as on AWS. The way out is NAT twice; the host itself, other microVMs, link-local and
private networks are refused. Only root and the server's own user on the host may open connections to a guest:
everyone else must come through the gateway and its tokens.

The guest's name server, 10.0.2.3, is an address of the namespace. What is sent there goes on to the host's name server
by NAT, without this process; where packets cannot reach that one, this process answers instead (names.py). A map in
the rules says which of the two, so that another resolv.conf counts at once.

`docs/network.md` has the whole picture.
"""
