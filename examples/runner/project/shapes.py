"""Areas of shapes."""


def rectangle(width, height):
    return width * height
