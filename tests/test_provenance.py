from modeling_oskdft.provenance import machine, measured_on, versions


def test_a_number_has_its_machine_and_versions():
    assert machine()["cores"] >= 1 and {"python", "torch", "transformers", "modeling-oskdft"} <= set(versions())


def test_the_line_below_a_table_names_the_gpu_or_else_the_processor():
    result = {"machine": {"cpu": "a processor", "cores": 2}, "versions": {"torch": "2.11", "numpy": "2.0"}}
    assert measured_on(result) == "a processor, 2 cores, torch 2.11."
    result["machine"]["gpu"] = "a GPU"
    assert measured_on(result, ("torch", "numpy")) == "a GPU, 2 cores, torch 2.11, numpy 2.0."
