"""Goes to the nearest coin."""


def move(state):
    x, y = state["you"]
    a, b = min(state["coins"], key=lambda coin: abs(coin[0] - x) + abs(coin[1] - y))
    if a != x:
        return [1 if a > x else -1, 0]
    return [0, 1 if b > y else -1]
