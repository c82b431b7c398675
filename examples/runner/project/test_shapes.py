from shapes import rectangle


def test_a_rectangle():
    assert rectangle(2, 3) == 6
