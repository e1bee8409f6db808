from modeling_oskdft.training.callbacks.progress import LogLines, log_line


class State:
    is_world_process_zero = True
    global_step, max_steps = 12, 54


def test_a_step_is_one_line():
    logs = {
        "loss": 27.65,
        "ft_loss": 12.6,
        "kd_loss": 15.1,
        "kd_weight": 0.99,
        "learning_rate_head": 1e-3,
        "epoch": 1.5,
    }
    assert log_line(logs) == "epoch    1.50  loss   27.650 = ft 12.600 + 0.99 x kd 15.100  head 1.0e-03"
    assert "x kd 15.100 (front end 0.800)  head" in log_line(logs | {"front_end_kd_loss": 0.8})
    assert "+ 0.99 x kd 15.100 + gates 0.500  head" in log_line(logs | {"gate_loss": 0.5})
    assert log_line({"epoch": 1.0, "eval_cer": 0.25, "eval_wer": 0.5}) == "epoch    1.00  eval: CER 25.0 %  WER 50.0 %"
    assert log_line({"loss": 2.0, "ft_loss": 2.0, "epoch": 1}) == "epoch    1.00  loss    2.000 = ft 2.000"


def test_an_evaluation_is_one_line():
    logs = {"eval_eer": 0.0788, "eval_min_dcf": 0.61, "epoch": 2.0}
    assert log_line(logs) == "epoch    2.00  eval: EER 7.88 %  minDCF 0.610"


def test_lines_go_to_stderr_and_nothing_new_says_nothing(capsys):
    lines = LogLines()
    lines.on_log(None, State(), None, {"eval_eer": 0.1, "eval_min_dcf": 0.5})
    lines.on_log(None, State(), None, {"total_flos": 1.0})
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("epoch    0.00  step 12/54  eval: EER 10.00 %")
