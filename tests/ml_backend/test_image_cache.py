import pytest

from biosegment.errors import LabelStudioError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from ml_backend.image_cache import ImageCache

ADDRESS = "/data/local-files/?d=sample/a.png"


class Served:
    """A file of a web server that knows ETags, and how often it was sent."""

    def __init__(self, site):
        self._site = site
        self.put(b"first", '"1"')

    def put(self, content, etag, address=ADDRESS):
        self._site.pages[address] = (200, {"ETag": etag} if etag else {}, content)

    @property
    def asked_for(self):
        return [headers.get("If-None-Match") for _, headers in self._site.asked]

    def unchanged(self):
        self._site.pages[ADDRESS] = (304, {"ETag": '"1"'}, b"")


@pytest.fixture
def served(site):
    return Served(site)


@pytest.fixture
def cache(site, tmp_path):
    settings = Settings(label_studio_url=site.url, label_studio_api_key="known-to-us")
    with LabelStudioClient(settings) as client:
        yield lambda limit=2**20: ImageCache(tmp_path / "cache", client, limit)


def kept(tmp_path):
    folder = tmp_path / "cache"
    return sorted(path.stat().st_size for path in folder.iterdir()) if folder.exists() else []


def test_an_image_is_sent_once(cache, served, tmp_path):
    assert cache().read(ADDRESS) == b"first"
    served.unchanged()
    assert [cache().read(ADDRESS) for _ in range(2)] == [b"first"] * 2
    assert served.asked_for == [None, '"1"', '"1"']
    assert len(kept(tmp_path)) == 1


def test_a_changed_image_is_never_stale(cache, served):
    here = cache()
    assert here.read(ADDRESS) == b"first"
    served.put(b"second", '"2"')
    assert here.read(ADDRESS) == b"second"
    served.put(b"", '"3"')
    assert here.read(ADDRESS) == b""
    served.put(b"fourth", "")
    assert here.read(ADDRESS) == b"fourth"


def test_what_may_not_be_seen_any_more_is_not_shown(cache, served, site):
    assert cache().read(ADDRESS) == b"first"
    site.pages[ADDRESS] = (403, {}, b"")
    with pytest.raises(LabelStudioError, match="403"):
        cache().read(ADDRESS)


def test_images_without_an_etag_are_not_kept(cache, served, tmp_path):
    served.put(b"first", "")
    assert cache().read(ADDRESS) == b"first"
    assert kept(tmp_path) == []


def test_those_that_were_not_used_for_longest_go(cache, served, tmp_path):
    addresses = [f"/data/upload/{number}.png" for number in range(12)]
    for address in addresses:
        served.put(bytes(96), '"1"', address)
    here = cache(limit=1000)
    for address in addresses[:10]:
        here.read(address)
    assert len(kept(tmp_path)) == 10
    here.read(addresses[0])
    for address in addresses[10:]:
        here.read(address)
    assert sum(kept(tmp_path)) <= 1000
    asked = len(served.asked_for)
    cache().read(addresses[0])
    cache().read(addresses[1])
    assert served.asked_for[asked:] == ['"1"', None]


def test_a_disk_that_cannot_be_written_to_only_costs_time(cache, served, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert [cache().read(ADDRESS) for _ in range(2)] == [b"first"] * 2


def test_a_file_that_was_cut_short_is_fetched_again(cache, served, tmp_path):
    cache().read(ADDRESS)
    [path] = (tmp_path / "cache").iterdir()
    path.write_bytes(b"")
    assert cache().read(ADDRESS) == b"first"
    assert served.asked_for == [None, None]
