import time
from types import SimpleNamespace

from modeling_oskdft.training.callbacks.stalls import StallWatch


def test_a_step_that_does_not_end_is_told_of_once(capsys):
    watch = StallWatch(1.0)
    args = SimpleNamespace(ddp_timeout=600, world_size=2)
    state = SimpleNamespace(global_step=3, is_local_process_zero=True)
    control = SimpleNamespace(should_evaluate=False, should_save=False)
    watch.on_train_begin(args, state, None)
    watch.on_step_begin(args, state, None)
    time.sleep(1.5)
    assert capsys.readouterr().err == ""  # the first step is given longer
    watch.on_step_end(args, state, control)
    watch.on_step_begin(args, state, None)
    time.sleep(1.5)
    said = capsys.readouterr().err
    assert said.count("no step has ended for") == 1 and "(step 3)" in said and "600 s" in said
    control.should_save = True  # which may take long
    watch.on_step_end(args, state, control)
    time.sleep(1.6)
    assert capsys.readouterr().err == ""
    watch.stop()
