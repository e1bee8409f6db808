from pytest import fixture

from modeling_oskdft.data.sources import load_manifest


@fixture
def now(people_of_now):
    return load_manifest(people_of_now)
