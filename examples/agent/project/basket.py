"""What a basket costs, in cents."""


def total(prices, discount_percent=0):
    """Return the sum of the prices less the discount; a cent is never cut in two."""
    whole = sum(prices)
    return whole - whole * discount_percent / 100
