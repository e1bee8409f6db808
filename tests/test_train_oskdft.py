from train_oskdft import main


def test_help_names_every_field(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in ("--teacher", "--kd_objective", "--adapter_size", "--train_data", "--backbone_decay"):
        assert name in printed
