import pytest
from fairseq import options

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.missing_task import _reporting


def test_validation_without_a_task_is_told_in_one_line():
    with pytest.raises(AdminError, match=r"--task is missing, .*--task translation"):
        options.parse_args_and_arch(options.get_validation_parser(), ["data", "--path", "x.pt"])


def test_another_missing_key_stays_what_it_is():
    with pytest.raises(KeyError, match="other"):
        _reporting(lambda: {}["other"])()
