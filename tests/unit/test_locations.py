"""Where snapshots are, as people write it: what is meant is found, and no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cqar import locations, storage
from cqar.errors import InvalidError
from cqar.server.config import Config
from cqar.storage import Local

SECRET = "wJalrXUtn-do-not-show"


@pytest.mark.parametrize(
    ("location", "folder"),
    [
        ("/srv/snapshots", "/srv/snapshots"),
        ("snapshots", "snapshots"),
        (Path("/srv/snapshots"), "/srv/snapshots"),
        ("file:///srv/snap%20shots", "/srv/snap shots"),
        ("file://localhost/srv", "/srv"),
    ],
)
def test_a_folder_is_a_folder_however_it_is_written(location: str | Path, folder: str) -> None:
    """A path, relative or not, and a file:// URI are all read by the folder's own code."""
    assert locations.folder_of(location) == Path(folder)
    found = storage.at(location)
    assert isinstance(found, Local)
    assert found.name == locations.shown(location) or "file" not in str(location)


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("s3://bucket", "bucket"),
        ("s3://bucket/", "bucket"),
        ("s3://bucket/a//b/", "bucket/a/b"),
        (f"s3://key:{SECRET}@bucket/a?region=eu-west-1", "bucket/a"),
        ("gs://bucket/a?endpoint_override=localhost:1&scheme=http", "bucket/a"),
    ],
)
def test_a_uri_is_taken_apart(uri: str, root: str) -> None:
    """Bucket and prefix are found, whatever stands around them."""
    place = locations.place_of(uri)
    assert locations.folder_of(uri) is None
    assert place.root == root
    assert place.name == locations.shown(uri) == f"{uri[:2]}://{root}"


def test_a_place_is_the_same_whoever_writes_it() -> None:
    """Servers that publish in one place with credentials of their own are rivals; on another endpoint they are not."""
    one, two, other = (
        locations.place_of(uri).identity
        for uri in (
            f"s3://bucket/a/?secret_key={SECRET}&access_key=k",
            "s3://k:s@bucket/a?region=us-east-1",
            "s3://bucket/a?endpoint_override=http://minio:9000",
        )
    )
    assert one == two == "s3://bucket/a"
    assert other == "s3://bucket/a at minio:9000"


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://key:{SECRET}/with-a-slash@bucket/a",
        f"s3://key:{SECRET}@/a",
        f"s3://bucket/a@{SECRET}",
        f"s3://bucket/a?secret_key={SECRET}&unheard_of=1",
        f"s3://bucket/a?{SECRET}",
        f"s3://bucket/a#{SECRET}",
        f"s3://bucket/../{SECRET}",
        f"s3://[{SECRET}/a",
        f"http://{SECRET}/a",
        f"file://{SECRET}/folder",
    ],
)
def test_what_is_wrong_with_a_uri_is_said_without_showing_it(uri: str) -> None:
    """Neither the error nor what stands for the URI in a log holds any part of it that may be a secret."""
    for read in (locations.folder_of, lambda uri: Config(snapshots=uri), storage.at):
        with pytest.raises(InvalidError) as caught:
            read(uri)
        assert SECRET not in f"{caught.value} {caught.value.metadata} {caught.value.__cause__}"
        assert caught.value.field == "snapshots"
    assert locations.shown(uri) == "***"


def test_a_value_that_an_option_cannot_have_is_said_without_showing_it() -> None:
    """A number that is none is found out when the storage is first used."""
    place = locations.place_of(f"s3://bucket/a?request_timeout={SECRET}&region=us-east-1")
    with pytest.raises(InvalidError, match="an option cannot be used") as caught:
        locations.file_system(place)
    assert SECRET not in str(caught.value)


def test_the_settings_of_a_server_show_no_secret() -> None:
    """The place is shown, what opens it is not."""
    config = Config(snapshots=f"s3://key:{SECRET}@bucket/a?session_token={SECRET}")
    assert "s3://bucket/a" in repr(config)
    assert SECRET not in repr(config)
    assert SECRET in config.snapshot_root
    assert SECRET not in repr(locations.place_of(config.snapshots))
