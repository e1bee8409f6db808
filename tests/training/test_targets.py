import torch

from modeling_oskdft.training.targets import compute_targets
from modeling_oskdft.training.teacher import Teacher
from modeling_oskdft.training.verifiers import VerifierTeacher
from tests.tiny import tiny_teacher, tiny_verifier, waves


def test_each_teacher_reads_its_own_view_of_the_crops():
    augmented, clean, other = (waves(4000, 4000, seed=seed)[0] for seed in range(3))
    batch = {"input_values": augmented, "teacher_input_values": clean, "teacher_views": [{"input_values": other}]}
    verifiers = [VerifierTeacher(tiny_verifier()), VerifierTeacher(tiny_verifier(), view=0)]
    targets = compute_targets(batch, Teacher(tiny_teacher(), [2]), verifiers)
    assert batch.keys() == {"input_values"}
    expected = Teacher(tiny_teacher(), [2])({"input_values": clean}).hidden_states
    torch.testing.assert_close(targets.hidden_states[0], expected[0])
    for received, heard in zip(targets.embeddings, (clean, other), strict=True):
        torch.testing.assert_close(received, VerifierTeacher(tiny_verifier())({"input_values": heard}))


def test_without_teachers_there_are_no_targets():
    assert compute_targets({"input_values": waves(4000)[0]}, None, []) == (None, None, None, [])
