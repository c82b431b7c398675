import unittest

from basket import total


class Total(unittest.TestCase):
    def test_sum(self):
        assert total([250, 199]) == 449

    def test_discount_in_whole_cents(self):
        cents = total([999], discount_percent=10)
        assert cents == 899
        assert isinstance(cents, int)

    def test_everything_off(self):
        assert total([999], discount_percent=100) == 0


if __name__ == "__main__":
    unittest.main()
