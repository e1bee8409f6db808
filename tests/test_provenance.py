from modeling_oskdft.benchmark import crop_reading
from modeling_oskdft.provenance import machine, versions


def test_what_a_number_was_measured_on():
    assert machine()["cores"] >= 1 and "torch" in versions()
    assert crop_reading.SECONDS == 20 and crop_reading.CROP_SECONDS == 3
