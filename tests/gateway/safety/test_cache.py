"""The verdict cache never crosses organisations or releases and stays within its capacity."""

from gateway.safety.cache import ReadOut, VerdictCache
from gateway.verdict import Scores

READ = ReadOut(Scores(1.0, 0.0, 0.0), ())


def test_one_organisation_never_sees_what_another_asked() -> None:
    cache = VerdictCache("sha256:x", 10)
    cache.put(cache.key("a", [1, 2, 3]), READ)
    assert cache.get(cache.key("a", [1, 2, 3])) == READ
    assert cache.get(cache.key("b", [1, 2, 3])) is None
    assert cache.get(cache.key("a", [1, 2])) is None


def test_organisation_and_ids_cannot_be_shifted_into_each_other() -> None:
    cache = VerdictCache("sha256:x", 10)
    assert cache.key("a", [1]) != cache.key("a\x01\x00\x00\x00", [])


def test_another_release_has_other_keys() -> None:
    one, two = VerdictCache("sha256:x", 10), VerdictCache("sha256:y", 10)
    two._key = one._key
    assert one.key("a", [1]) != two.key("a", [1])


def test_the_least_recently_used_read_out_leaves_first() -> None:
    cache = VerdictCache("sha256:x", 2)
    first, second, third = (cache.key("a", [n]) for n in range(3))
    cache.put(first, READ)
    cache.put(second, READ)
    assert cache.get(first) is not None
    cache.put(third, READ)
    assert cache.get(second) is None
    assert cache.get(first) is not None
