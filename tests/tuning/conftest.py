import pytest


@pytest.fixture
def recipe(tmp_path, voices):
    text = f"teacher: nowhere\noutput_dir: x\ntrain_data: {voices}\ntest_trials: never-read.txt\nuse_cpu: true\n"
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path / "recipe.yaml"
